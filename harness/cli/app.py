"""The command line: a table of contents. Each command is a function in :mod:`harness.cli`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from harness.cli.check import CHECK_EXAMPLES, check
from harness.cli.fit import FIT_EXAMPLES, fit
from harness.cli.inventory import DOCTOR_EXAMPLES, LIST_ALL_EXAMPLES, doctor, list_all
from harness.cli.nightly import NIGHTLY_EXAMPLES, nightly
from harness.cli.report import REPORT_EXAMPLES, report
from harness.cli.stores import EXPORT_EXAMPLES, INGEST_EXAMPLES, MERGE_EXAMPLES, export, ingest, merge
from harness.cli.sweep import SWEEP_EXAMPLES, sweep
from harness.errors import EXIT_INTERRUPTED, EXIT_USAGE, HarnessError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run the same training work under several backends and rank counts, prove that it was the same, and report.",
)
app.command(epilog=SWEEP_EXAMPLES)(sweep)
app.command(epilog=REPORT_EXAMPLES)(report)
app.command(epilog=CHECK_EXAMPLES)(check)
app.command(epilog=NIGHTLY_EXAMPLES)(nightly)
app.command(epilog=FIT_EXAMPLES)(fit)
app.command(epilog=EXPORT_EXAMPLES)(export)
app.command(epilog=INGEST_EXAMPLES)(ingest)
app.command(epilog=MERGE_EXAMPLES)(merge)
app.command("list", epilog=LIST_ALL_EXAMPLES)(list_all)
app.command(epilog=DOCTOR_EXAMPLES)(doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        status: Any = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except HarnessError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as problem:
        # Typer's own complaints (an unknown flag, a number that isn't one) in one line like ours.
        if not hasattr(problem, "format_message"):
            raise
        print(f"error: {' '.join(problem.format_message().split())} (see --help)", file=sys.stderr)
        return EXIT_USAGE
    return int(status or 0)
