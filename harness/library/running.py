"""Sweeps run from a program: the command ``sweep`` in a process of its own, and what it stored."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from harness.errors import CommandError, UsageError
from harness.library.options import SweepOptions, sweep_arguments
from harness.library.process import CommandEnd, run_command
from harness.library.progress import shower
from harness.library.results import ResultsStore, store_url
from harness.store import STORE_VARIABLE

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

ERROR = "error: "
"""Begins the line of an error that the user can correct."""


@dataclass(frozen=True)
class SweepRun:
    """A sweep that was run, and is stored."""

    sweep: str
    """Its id."""
    store: ResultsStore
    exit_code: int
    """0, or 4: some trials failed, or none ran; or 2: its page could not be written."""
    document: Mapping[str, Any] = field(repr=False)
    """The JSON document that the command prints."""

    @property
    def page(self) -> Path:
        """Its report."""
        return Path(self.document["report"])

    def answers(self) -> pandas.DataFrame:
        """See :meth:`ResultsStore.answers`."""
        return self.store.answers(self.sweep)

    def cells(self) -> pandas.DataFrame:
        """See :meth:`ResultsStore.cells`."""
        return self.store.cells(self.sweep)

    def trials(self) -> pandas.DataFrame:
        """See :meth:`ResultsStore.trials`."""
        return self.store.trials(self.sweep)

    def figures(self) -> dict[str, plotly.graph_objects.Figure]:
        """See :meth:`ResultsStore.figures`."""
        return self.store.figures(self.sweep)


def run(
    suite: str | os.PathLike[str] | None = None,
    *,
    store: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[str], None] = True,
    **options: Unpack[SweepOptions],
) -> SweepRun:
    """Run a sweep as ``python -m harness sweep`` does, and wait for its end.

    It is that command, in a process of its own: the sources are copied, the ranks import nothing of this program and
    inherit its environment variables. It can be called from any thread, and in a notebook. An interrupt (Ctrl-C) ends
    the sweep as it ends the command: the trials that had ended are stored. If this program dies, the sweep ends too.

    Args:
        suite: A suite's name or a TOML file. Default: as of the command.
        store: A SQLite file or a database URL, made where it is absent. Default: as of :func:`open_store`.
        progress: Whether to show lines of progress and warnings, on standard error or in the cell of a notebook; or a
            function that takes each line.
        **options: The options of the command, by name: ``ranks=[1, 2]``,
            ``set={"backend.ddp.bucket_cap_mb": [1, 25]}``.

    Returns:
        The stored sweep, also where trials failed: see :attr:`SweepRun.exit_code`, and the columns ``outcome`` and
        ``reason`` of its cells.

    Raises:
        UsageError: An argument is unknown, or has a wrong type.
        CommandError: The command ended without a result: bad usage or input (``exit_code`` 2), a defect (70), or it was
            ended by somebody else.
        KeyboardInterrupt: This program was interrupted; the sweep has ended then.
    """
    url = store_url(store)
    named = [] if suite is None else ["--", os.fspath(suite)]
    arguments = ["sweep", "--json", *sweep_arguments(options), *named]
    try:
        # Not as an argument, which every user of the machine sees: it may hold a password.
        end = run_command(arguments, {STORE_VARIABLE: url}, shower(progress))
    except (OSError, ValueError) as problem:
        raise UsageError(f"run: the command can't be started ({problem})") from None
    if not end.output:
        raise command_error(end)
    document = json.loads(end.output)
    return SweepRun(document["sweep"], ResultsStore(url), end.exit_code, document)


def command_error(end: CommandEnd) -> CommandError:
    """The error of a command that ended without a result."""
    if end.exit_code < 0:
        name = signal.Signals(-end.exit_code).name
        return CommandError(f"the command was ended by {name}; run it again, or with resume=True", 128 - end.exit_code)
    errors = [line.removeprefix(ERROR) for line in end.messages if line.startswith(ERROR)]
    last = [line for line in end.messages if line.strip()][-1:]
    return CommandError((errors or last or ["it said nothing"])[-1], end.exit_code)
