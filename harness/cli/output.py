"""What commands have in common: options, and where people and programs read."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console

from harness.errors import EXIT_OK, UsageError

stderr_console = Console(stderr=True)
PIPED_WIDTH = 110


class CommandOutput(Protocol):
    """What a command has to say, to people and to programs."""

    def as_json(self) -> dict[str, Any]: ...

    def print(self, console: Console) -> None: ...


StoreOption = Annotated[
    str, typer.Option("--store", metavar="URL", help="Results store: a SQLite file or a database URL.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")
]


def print_output(output: CommandOutput, *, as_json: bool) -> int:
    """Print what was written or brought in; returns the exit status."""
    if as_json:
        print_json(output.as_json())
    else:
        output.print(stdout_console())
    return EXIT_OK


def stdout_console() -> Console:
    """Standard output for people; wide enough for every column where it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))


def command_line() -> str:
    """What was typed, without passwords."""
    from harness.store.opening import mask_password

    return shlex.join(["python", "-m", "harness", *map(mask_password, sys.argv[1:])])


def check_writable(option: str, target: Path | None) -> Path | None:
    """A file that can't be written is found out before the work. Raises :class:`UsageError`."""
    if target is None:
        return None
    target = target.resolve()
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{option} {target}: its folder does not exist, or it is one itself; name a file to write")
    return target
