"""``python -m harness nightly``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import StoreOption, stderr_console
from harness.errors import sigterm_as_interrupt
from harness.store.store import DEFAULT_STORE

NIGHTLY_EXAMPLES = (
    "Examples:\n\n`python -m harness nightly`\n\n"
    "`python -m harness nightly scaling --no-micro --out /srv/pages` — another suite, and nothing but it\n\n"
    "`python -m harness nightly --base-rev v1.2` — suspects are run against that commit\n\n"
    "Exit: 0 pass or improved, 1 regressed, 2 bad input, 3 cannot tell, 4 a trial or a step gave no number, "
    "130 interrupted."
)


def nightly(
    suite: Annotated[str, typer.Argument(help="A suite's name (see `list`) or a TOML file.")] = "nightly",
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pages and verdicts go.")] = Path(".runs/nightly"),
    base_rev: Annotated[
        str | None, typer.Option(metavar="REV", help="What suspects are run against; default: the last good commit.")
    ] = None,
    micro: Annotated[bool, typer.Option("--micro/--no-micro", help="Measure the micro-benchmarks too.")] = True,
    confirm: Annotated[bool, typer.Option("--confirm/--no-confirm", help="Run suspects again, in pairs.")] = True,
) -> int:
    """Run a suite and the micro-benchmarks, judge both and write the pages; the exit code is the verdict.

    A step that breaks is told, and hides none of the others.
    """
    from harness.check.nightly import NightlyOptions, run_nightly

    with sigterm_as_interrupt():
        return run_nightly(NightlyOptions(suite, store, out, base_rev, micro, confirm), stderr_console)
