"""What commands have in common: options, logging, and where people and programs read results.

Results go to standard output; progress, remarks and errors go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TextIO

import typer

from harness.errors import EXIT_OK, EXIT_USAGE, UsageError
from harness.store import STORE_VARIABLE
from harness.streams import results

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 110
SWEEP_NAMES = "An id, `latest`, `latest~1`, a tag, or the start of an id"
"""What names a sweep, in the help of commands."""
configured_words: ContextVar[tuple[str, ...]] = ContextVar("configured_words", default=())
"""The options of this command that are from the user's configuration, as words of a command line."""
log = logging.getLogger("scaling_harness")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at that moment: a progress bar may have taken its place."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        return


class _LineFormatter(logging.Formatter):
    """A message is one line without secrets, whatever it quotes: an exception, a host's answer, what was typed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return _shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _shown(super().formatException(ei), keep="\n")


def _shown(text: str, keep: str = "") -> str:
    from bench.core.text import printable  # a list of commands needs none of it
    from bench.host.secrets import mask_secrets

    return printable(mask_secrets(text), keep=keep)


def configure_logging(level: int = logging.INFO) -> None:
    """Send the project's log (the logger ``scaling_harness``) from ``level`` on to standard error, as plain lines.

    Warnings of libraries, and what they log without a handler of their own, are lines like these.
    """
    log.setLevel(level)
    for logger in (log, logging.getLogger("py.warnings")):
        if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
            handler = _StderrHandler()
            handler.setFormatter(_LineFormatter())
            logger.addHandler(handler)
    logging.captureWarnings(True)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_LineFormatter())


def set_verbosity(verbose: bool | None) -> None:
    """``True`` logs debug lines, commands started by this process among them; ``False`` errors alone."""
    if verbose is not None:
        configure_logging(logging.DEBUG if verbose else logging.ERROR)
    if verbose:
        _log_started_commands()


@cache
def _log_started_commands() -> None:
    from bench.host.secrets import mask_command

    def log_command(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and log.isEnabledFor(logging.DEBUG):
            command = arguments[1]
            words = [command] if isinstance(command, str | bytes) else command
            log.debug("run: %s", mask_command(map(str, words)))

    sys.addaudithook(log_command)


def _take_store(location: str) -> str:
    """The store's variable may hold a password, which is no business of ranks and other children."""
    os.environ.pop(STORE_VARIABLE, None)
    return location


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar=STORE_VARIABLE,
        callback=_take_store,
        help="Results store: a SQLite file or a database URL.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")
]
VerbosityOption = Annotated[
    bool | None,
    typer.Option(
        "--verbose/--quiet",
        "-v/-q",
        callback=set_verbosity,
        is_eager=True,
        help="Log the commands that are started too; or nothing but errors and the result.",
        show_default=False,
    ),
]


MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--markdown",
        metavar="FILE.md|-",
        parser=lambda text: output_or_stdout("--markdown")(text),
        help="Its first screen for a job summary or a pull request; `-`: on standard output, and nothing else.",
    ),
]


PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE", help="A file with a backend, workload, … of your own; may be repeated."),
]


class CommandOutput(Protocol):
    """The result of a command, for people and for programs."""

    def as_json(self) -> dict[str, Any]: ...

    def print(self, console: Console) -> None: ...


def print_output(output: CommandOutput, *, as_json: bool) -> int:
    """Print a result; returns the exit status."""
    if as_json:
        print_json(output.as_json())
    else:
        output.print(stdout_console())
    return EXIT_OK


def report_lost_outputs(problems: Sequence[str], status: int) -> int:
    """Log why outputs could not be written; the exit status of a command that ended with ``status`` otherwise.

    That is bad usage, unless the command has something graver to report.
    """
    for problem in problems:
        log.error("error: %s", problem)
    return EXIT_USAGE if problems and status == EXIT_OK else status


def stdout_console() -> Console:
    """Standard output for people; wide enough for every column where it is not a terminal."""
    from reports.formats.console import TextConsole

    console = TextConsole(file=results())
    return console if console.is_terminal else TextConsole(file=results(), width=PIPED_WIDTH)


def stderr_console() -> Console:
    """Standard error for progress; silent under ``--quiet``."""
    from reports.formats.console import TextConsole

    return TextConsole(stderr=True, quiet=not log.isEnabledFor(logging.INFO))


MAX_INDENTED_LENGTH = 2**20
"""Of a JSON document, in characters: a longer one, which nobody reads, is printed on one line several times as fast."""


def print_json(document: Any) -> None:
    """Print a document on standard output. Not-a-number values are refused: JSON has none."""
    text = json.dumps(document, allow_nan=False)
    if len(text) <= MAX_INDENTED_LENGTH:
        text = json.dumps(document, indent=2)
    text, stream = text.replace("\x7f", "\\u007f"), results()  # JSON leaves DEL as it is
    # A stream encodes what it is given as a whole.
    for begin in range(0, len(text), MAX_INDENTED_LENGTH):
        stream.write(text[begin : begin + MAX_INDENTED_LENGTH])
    print(file=stream)


def command_line() -> str:
    """The command with what it has from the configuration, without passwords; bytes that are no text (of a file's name)
    are escaped."""
    from bench.host.secrets import mask_command

    command = mask_command(["python", "-m", "harness", *sys.argv[1:], *configured_words.get()])
    return command.encode(errors="backslashreplace").decode()


def check_printed(markdown: Path | None, *, as_json: bool) -> None:
    """Raise :class:`UsageError` where two texts would go to standard output."""
    if as_json and markdown == Path("-"):
        raise UsageError("--json and --markdown - both print on standard output; name a file for one of them")


def output_or_stdout(option: str) -> Callable[[str], Path]:
    """The parser of an option that names a file to write, or ``-`` for standard output."""
    parse = output_path(option)
    return lambda text: Path(text) if text == "-" else parse(text)


def output_path(option: str) -> Callable[[str], Path]:
    """The parser of an option that names a file to write. It sees what a path does not show: a slash at the end."""

    def parse(text: str) -> Path:
        from harness.output_files import named_file

        return named_file(option, text)

    return parse
