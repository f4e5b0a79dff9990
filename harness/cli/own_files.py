"""The commands ``new`` and ``try``: a file of the user's own, from its first lines to the command that measures it."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.completion import complete_backends
from harness.cli.output import JsonOption, VerbosityOption, log, print_json, stderr_console, stdout_console
from harness.errors import EXIT_OK, EXIT_TRIALS_FAILED
from harness.interrupts import signals_as_interrupts
from reports.formats.documents import versioned

EXAMPLES = {
    "new": (
        "Examples: `python -m harness new workload my_lm`, `python -m harness new backend my_backend`\n\n"
        "The file is written to the current folder. `python -m harness try my_lm.py` runs it."
    ),
    "try": (
        "Examples:\n\n`python -m harness try my_lm.py`\n\n"
        "`python -m harness try my_lm.py --backends ddp,fsdp,horovod --set lm.accumulate=2`"
    ),
}


def new(
    kind: Annotated[str, typer.Argument(metavar="workload|backend|probe", help="What the file defines.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name; the file is NAME.py.")],
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Write the file of a workload, backend or probe of your own, with comments.

    It works as it is. A file that is there already stays as it is.
    """
    from harness.setup.new_file import write_new_file
    from reports.formats.console import print_line

    written = write_new_file(kind, name)
    if as_json:
        print_json(versioned("new", written._asdict()))
    else:
        print_line(stdout_console(), f"{written.file} is written; next: {written.next_step}")
    return EXIT_OK


def try_file(
    file: Annotated[str, typer.Argument(metavar="FILE.py", help="A file that defines WORKLOAD.")],
    backends: Annotated[
        list[str] | None,
        typer.Option(
            "--backends", metavar="A,B", help="Backends to try it under; default ddp.", autocompletion=complete_backends
        ),
    ] = None,
    ranks: Annotated[
        list[str] | None, typer.Option("--ranks", metavar="1,2", help="Rank counts to try; default 1,2.")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Samples a step of all ranks.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.OPTION=VALUE", help="An option of the workload or a backend."),
    ] = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Run a workload of your own for ten steps, and say what is missing.

    The steps are taken on one and on two real ranks of this machine, where they must do the same work as a single
    process. Nothing is stored.
    """
    from harness.planning.flags import split_names
    from harness.setup.trying import attempts, plan_attempts
    from reports.formats.console import print_line

    tried = plan_attempts(file, split_names(backends or ["ddp"]), split_names(ranks or ["1,2"]), batch, settings or ())
    made = []
    with signals_as_interrupts():
        for attempt in attempts(tried.plan):
            print_line(stderr_console() if as_json else stdout_console(), attempt.line())
            made.append(attempt)
    ready = tried.is_ready(made)
    if as_json:
        print_json(
            versioned(
                "try",
                {
                    "file": file,
                    "workload": tried.workload,
                    "ready": ready,
                    "attempts": [attempt.model_dump() for attempt in made],
                    "command": tried.sweep_command,
                },
            )
        )
    elif ready:
        print_line(stdout_console(), f"ready: {tried.sweep_command}")
    else:
        log.error("not ready: correct what is named above, then try it again")
    return EXIT_OK if ready else EXIT_TRIALS_FAILED
