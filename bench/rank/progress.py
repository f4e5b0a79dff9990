"""The progress of a rank, in a memory-mapped file that others can still read after the rank was killed."""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bench.core.case import Case
from bench.host.regular_files import UnusableFile, open_regular, read_regular
from bench.telemetry.edges import WindowPhase

PID, PHASE, STEP, SINCE_NS, LAST_STEP_NS = range(5)
CELLS, CELL_BYTES = 5, 8
ERROR_OFFSET, ERROR_BYTES = CELLS * CELL_BYTES, 2000
"""Behind the numbers: the error of the rank, where it could not be written elsewhere."""

PHASES = (
    "joining the other ranks",
    "building the workload",
    "starting the program",
    "verified steps",
    "reference of the verified steps",
    "warm-up step",
    "measured step",
    "further measurements",
    "decomposition",
    "leaving",
)
WINDOW_PHASES: Mapping[str, WindowPhase] = {"warm-up step": "warm-up", "measured step": "window"}
COUNTED = ("warm-up step", "measured step")
"""The phases whose steps are counted."""


class RankProgress(NamedTuple):
    """The phase of a rank, and its step in phases whose steps are counted."""

    rank: int
    pid: int
    phase: str
    step: int
    since_s: float = 0.0
    """When it entered the phase or began the step, in seconds since the Unix epoch; 0 if unknown."""
    last_step_s: float = 0.0
    """How long its last counted step took; 0 before there was one."""
    error: str = ""
    """Its error, where the disk took no other file."""

    @property
    def position(self) -> tuple[int, int]:
        """Its phase and step as numbers: a rank with smaller ones is behind."""
        return PHASES.index(self.phase), self.step

    @property
    def description(self) -> str:
        """``in measured step 17``, ``while joining the other ranks``, ``in the verified steps``."""
        if self.phase in COUNTED:
            return f"in {self.phase} {self.step}"
        return f"while {self.phase}" if self.phase.split()[0].endswith("ing") else f"in the {self.phase}"


class Progress:
    """Records the progress of this rank.

    Args:
        folder: The trial's folder, where other processes read it; ``None``: it is kept in memory.
        rank: The number of the rank.
    """

    def __init__(self, folder: Path | None = None, rank: int = 0) -> None:
        if folder is None:
            self._cells = memoryview(bytearray(CELLS * CELL_BYTES)).cast("q")
        else:
            with (folder / f"progress-{rank}").open("wb+") as file:
                # Written, not truncated: a hole in a file would end this process where the disk is full by then.
                file.write(bytes(ERROR_OFFSET + ERROR_BYTES))
                file.flush()
                self._cells = memoryview(mmap.mmap(file.fileno(), CELLS * CELL_BYTES)).cast("q")
        self._block = 1
        self._cells[PID] = os.getpid()
        self._cells[SINCE_NS] = time.time_ns()

    def enter(self, phase: str, step: int = 0) -> None:
        """Enter one of :data:`PHASES`, at a step of it, from 1, where that has begun already."""
        self._cells[STEP] = step
        self._cells[PHASE] = PHASES.index(phase)
        self._cells[SINCE_NS] = time.time_ns()

    def count_steps(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The step, counted when it begins and timed when it ends, which takes a fraction of a microsecond."""
        cells, now_ns = self._cells, time.time_ns

        def counted() -> None:
            cells[STEP] += 1
            cells[SINCE_NS] = began_ns = now_ns()
            step()
            cells[LAST_STEP_NS] = now_ns() - began_ns

        return counted

    def begin_steps(self, count: int) -> None:
        """A block of so many steps begins, and the one before has ended: its first step stands for all of them."""
        cells, now_ns = self._cells, time.time_ns()
        if cells[STEP]:
            cells[LAST_STEP_NS] = (now_ns - cells[SINCE_NS]) // self._block
        cells[STEP] += self._block if cells[STEP] else 1
        cells[SINCE_NS] = now_ns
        self._block = count

    def step_ended(self, step_ns: int) -> None:
        """A step has ended after that many nanoseconds, and the next one begun."""
        self._cells[STEP] += 1
        self._cells[SINCE_NS] = time.time_ns()
        self._cells[LAST_STEP_NS] = step_ns

    @property
    def current(self) -> RankProgress:
        """The progress of this rank, as rank 0."""
        return _read(self._cells, 0)


class PhaseWatch:
    """Tells whether a rank is in its measured window; for another process that asks again and again.

    Args:
        folder: The trial's folder.
        rank: The number of the rank.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"progress-{rank}"
        self._file: BinaryIO | None = None

    def read(self) -> WindowPhase:
        """Where the rank is; a rank that has not started yet, or not written what it should, is outside."""
        with suppress(OSError, ValueError, IndexError):
            if self._file is None:
                self._file = open_regular(self._path)
            cell = os.pread(self._file.fileno(), CELL_BYTES, PHASE * CELL_BYTES)
            phase = PHASES[int.from_bytes(cell, sys.byteorder)]
            return WINDOW_PHASES.get(phase, "outside")
        return "outside"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_progress(folder: Path) -> list[RankProgress]:
    """The progress of all ranks that have started in a trial's folder, in the order of the ranks."""
    ranks = []
    for path in folder.glob("progress-*"):
        with suppress(OSError, ValueError, TypeError, IndexError):
            content = read_regular(path, ERROR_OFFSET + ERROR_BYTES)
            number = int(path.name.removeprefix("progress-"))
            progress = _read(memoryview(content[:ERROR_OFFSET]).cast("q"), number)
            ranks.append(progress._replace(error=content[ERROR_OFFSET:].rstrip(b"\0").decode(errors="replace")))
    return sorted(ranks)


def pids_of_node(folder: Path, case: Case, node: int) -> list[int]:
    """The process ids of the ranks of a node that have started."""
    # A progress file that was just created holds no process id yet.
    return [rank.pid for rank in read_progress(folder) if rank.pid and case.node_of_rank(rank.rank) == node]


def keep_error(folder: Path, rank: int, error: str) -> None:
    """Write the error of a rank into its progress file, which takes no further space of the disk.

    Raises:
        OSError: If there is no such file.
    """
    with (folder / f"progress-{rank}").open("r+b") as file:
        file.seek(ERROR_OFFSET)
        file.write(error.encode(errors="replace")[:ERROR_BYTES])


def freeze_progress(folder: Path) -> None:
    """Have the files in a trial's folder keep what they say now, whatever the ranks do from now on."""
    for path in folder.glob("progress-*"):
        with suppress(OSError, UnusableFile):
            copy = path.with_name(f".{path.name}")
            copy.write_bytes(read_regular(path, ERROR_OFFSET + ERROR_BYTES))
            # Ranks continue to write to the file that had this name.
            copy.replace(path)


def _read(cells: memoryview[int], rank: int) -> RankProgress:
    return RankProgress(
        rank, cells[PID], PHASES[cells[PHASE]], cells[STEP], cells[SINCE_NS] / 1e9, cells[LAST_STEP_NS] / 1e9
    )
