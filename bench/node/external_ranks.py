"""Ranks that a program outside of the node agent starts (such as srun), as their progress files show them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.core.exit_report import FailedProcess
from bench.host.ownership import FOLDER_VARIABLE
from bench.host.process_tree import descendants_of, end_all, is_alive
from bench.host.processes import pid_alive
from bench.rank.progress import RankProgress, read_progress


class ExternalRanks:
    """Ranks of this machine that another program starts and ends, known by their progress files in the trial's folder.

    Args:
        folder: The trial's folder.
        ranks: The numbers of the ranks.
        log: The log that all of them share; ``None``: each has one of its own.
    """

    def __init__(self, folder: Path, ranks: Sequence[int], log: Path | None = None) -> None:
        self.folder, self.ranks, self.log = folder, tuple(ranks), log

    def progress(self) -> list[RankProgress]:
        """The progress of those that have started."""
        # A progress file that was just created holds no process id yet.
        return [rank for rank in read_progress(self.folder) if rank.rank in self.ranks and rank.pid]

    def is_running(self) -> bool:
        """Whether one of them has not ended, or not started."""
        progress = self.progress()
        return len(progress) < len(self.ranks) or any(pid_alive(rank.pid) for rank in progress)

    def failed(self) -> list[FailedProcess]:
        """Those that have ended without a record."""
        return [
            FailedProcess("rank", rank.rank, None, self.log or self.folder / f"rank-{rank.rank}.log", time.time())
            for rank in self.progress()
            if not pid_alive(rank.pid) and not (self.folder / f"record-{rank.rank}.json").exists()
        ]

    def end(self) -> None:
        """Kill those that their launcher has left behind, and what they have started.

        No process of this node adopts that: it is known by its parent, else by its environment.
        """
        end_all(self._left_running)

    def _left_running(self) -> set[psutil.Process]:
        found = set[psutil.Process]()
        for rank in self.progress():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(rank.pid)
                # The process id may be another process's by now.
                if str(self.folder) in process.cmdline():
                    found |= {process, *descendants_of(process.pid)}
        folder = str(self.folder.resolve())
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(FOLDER_VARIABLE) == folder:
                    found.add(process)
        return {process for process in found if is_alive(process)}
