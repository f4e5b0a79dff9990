"""The command line: a table of commands, and how errors become exit codes.

A command's module is imported when the command runs; the list of commands needs none of them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from harness.cli.completion import PROGRAM, InstallOption, ShowOption, is_requested
from harness.cli.configured import ConfiguredCommand
from harness.cli.output import configure_logging
from harness.errors import EXIT_INTERRUPTED, EXIT_USAGE, HarnessError
from harness.streams import results_apart

MARKUP: Final = "markdown"
HELP_OPTIONS: Final = {"help_option_names": ["-h", "--help"]}
COMMANDS = {
    "sweep": ("sweep:sweep", "Run a suite and write its report."),
    "report": ("report:report", "Write the page of a stored sweep, of several side by side, or an index over many."),
    "sweeps": ("sweeps:SUBCOMMANDS", "List, show, compare, name and delete stored sweeps."),
    "check": ("check:check", "Compare the newest sweep with the nights before and report regressions."),
    "nightly": ("check:nightly", "Run a suite and the micro-benchmarks, check both and write the pages."),
    "fit": ("fit:fit", "Fit speed-up laws (USL, Amdahl, log, linear) to throughputs in a CSV file."),
    "export": (
        "stores:export",
        "Write stored trials to a file (CSV, Parquet, OpenMetrics, …) or to an experiment tracker (MLflow, …).",
    ),
    "ingest": ("stores:ingest", "Read results of other tools into the store."),
    "merge": ("stores:merge", "Copy the sweeps of another store into this one."),
    "list": ("inventory:list_all", "List backends, workloads, suites and sites with their options."),
    "new": ("own_files:new", "Write the file of a workload, backend or probe of your own, with comments."),
    "try": ("own_files:try_file", "Run a workload of your own for ten steps, and say what is missing."),
    "config": ("config:config", "Show the options that commands take from scaling.toml or pyproject.toml."),
    "doctor": ("inventory:doctor", "Report what is installed and what is missing, or check a plugin."),
}
"""Command → module and function in :mod:`harness.cli`, and the one line that ``--help`` shows."""

log = logging.getLogger("scaling_harness")


@cache
def load_command(name: str) -> Any:
    """Import a command: its module holds the function, or those of a group by name, and in ``EXAMPLES`` the end of its
    help. Its parser is made once a process: that takes 5 ms, and programs that call :func:`main` do so often.

    Returns:
        The command as Typer's parser takes it.
    """
    place, summary = COMMANDS[name]
    module_name, _, attribute = place.partition(":")
    module = importlib.import_module(f"harness.cli.{module_name}")
    table = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=MARKUP)
    found = getattr(module, attribute)
    if isinstance(found, Mapping):
        for part, function in found.items():
            _add_command(table, part, function, module.EXAMPLES[f"{name} {part}"])
        table.callback(
            invoke_without_command=True,
            help=summary,
            epilog=module.EXAMPLES[name],
            context_settings=dict(HELP_OPTIONS),
        )(_print_help_of_group)
    else:
        _add_command(table, name, found, module.EXAMPLES[name])
    return get_command(table)


def _add_command(table: typer.Typer, name: str, function: Callable[..., int], examples: str) -> None:
    settings = dict(HELP_OPTIONS)
    table.command(name, epilog=examples, context_settings=settings, cls=ConfiguredCommand)(results_apart()(function))


def _print_help_of_group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


class LazyCommands(Mapping[str, Any]):
    """The commands by name; each is imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return load_command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class CommandTable(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": LazyCommands()})

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # Typer would end without a word
            log.error("interrupted")
            return EXIT_INTERRUPTED

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.commands = self._summaries()
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self.commands = self._summaries()
        return super().shell_complete(ctx, incomplete)

    def _summaries(self) -> Any:
        """The commands by name with the line of their help alone, which imports none of them."""
        return {name: TyperCommand(name, help=summary) for name, (_, summary) in COMMANDS.items()}


app = typer.Typer(
    cls=CommandTable,
    invoke_without_command=True,
    context_settings=dict(HELP_OPTIONS),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"scaling-harness {version('scaling-harness')}")
        except PackageNotFoundError:
            print("scaling-harness, not installed: run from its sources")
        raise typer.Exit


@app.callback(epilog="Examples: `python -m harness sweep`, `python -m harness sweep --help`")
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    install_completion: Annotated[bool, InstallOption] = False,
    show_completion: Annotated[bool, ShowOption] = False,
) -> None:
    """Run the same training work under several backends and rank counts, verify that it was the same, and report."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after the program's name; ``None`` takes them from ``sys.argv``.

    Returns:
        The exit status; see :mod:`harness.errors`.
    """
    configure_logging()
    # A shell completes the console script, however this process was started: Typer would derive a name from that.
    completing = PROGRAM if is_requested() else None
    try:
        Path.cwd()
    except OSError:
        log.error("error: the current folder was removed, or can't be read; change into another one")
        return EXIT_USAGE
    try:
        given = None if arguments is None else list(arguments)
        status: Any = app(args=given, prog_name=completing, standalone_mode=False)
    except HarnessError as problem:
        log.error("error: %s", problem)
        return problem.exit_code
    except SystemExit as ended:
        if completing:
            return int(ended.code or 0)
        # Typer ends like this, with 1, where any pipe breaks, such as one to ssh.
        if ended.__context__ is not None:
            raise ended.__context__ from None
        raise
    except typer.Abort as aborted:
        # Typer's word for an input that ends, where nothing is asked: the end of a pipe to another process.
        raise aborted.__cause__ or aborted from None
    except Exception as problem:
        # Typer's own errors (an unknown flag, a number that isn't one) in one line like ours.
        if not hasattr(problem, "format_message"):
            raise
        log.error("error: %s (see --help)", " ".join(problem.format_message().split()))
        return EXIT_USAGE
    return int(status or 0)
