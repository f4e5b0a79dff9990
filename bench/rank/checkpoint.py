"""What saving model and optimizer costs, measured after the window: how long training stands still, and for how much.

Three ways, which a training workload's option ``checkpoint`` names:

- ``blocking``: rank 0 saves everything by ``torch.save`` while the others wait. A sharded state is gathered first.
- ``distributed``: ``torch.distributed.checkpoint.save``: every rank writes a share.
- ``async``: ``torch.distributed.checkpoint.async_save`` copies the state and writes it while training goes on. What the
  steps take longer meanwhile counts too, since the writer needs cores and memory as they do. Where the ranks form no
  process group of torch.distributed, rank 0 saves alone.

The stall is that of the slowest rank. ``torch.save`` leaves what it writes to the operating system's cache, as programs
do; the other two wait for the disk. The time until everything is on the disk is a reading of its own.
"""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.core.records import CHECKPOINT_READINGS, Reading
from bench.host.disk import is_full
from bench.host.logs import describe_exception
from bench.plugins.backend import Session
from bench.plugins.workload import TrainingWork
from bench.rank.clock import Clock, synchronize, time_steps

MAX_SAVES, MAX_SAVING_S = 5, 1.5
"""Saves are repeated so often, or until they have taken so long; their medians count."""
GIGABYTE = 1e9


class CheckpointFailure(Exception):
    """A checkpoint could not be saved. Every rank raises it, and has taken part in all that the ranks exchange.

    Args:
        problem: Why, in one line; "" on a rank that could have saved, where another one could not.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem or "another rank could not save the checkpoint")
        self.elsewhere = not problem


class Save(NamedTuple):
    """One save, as this rank saw it."""

    stall_s: float
    write_s: float
    size_bytes: int
    """Of what this rank wrote."""


def measure_checkpoint(
    work: TrainingWork, session: Session, step_s: float, parent: Path, clock: Clock = time.perf_counter
) -> tuple[Reading, ...]:
    """Save the state of a work several times, and remove what was written. Called on every rank.

    Args:
        work: A built workload, after its window.
        session: The group of ranks.
        step_s: How long a step takes on this rank, in seconds.
        parent: An existing folder; the same path on every rank.
        clock: The clock, in seconds.

    Returns:
        The :data:`bench.core.records.CHECKPOINT_READINGS`, the same on every rank; unknown, with the reason, where
        these ranks can't save that way.

    Raises:
        CheckpointFailure: A rank could not save.
    """
    saver = SAVERS[work.checkpoint](work, session, step_s, clock)
    if (reason := saver.impossible()) is not None:
        return unknown_readings(reason)
    # Another trial may save into the same folder: a number that the ranks share, and no other trial has.
    number = session.largest(float(int.from_bytes(os.urandom(6), "big")))
    folder = parent / f"checkpoint-{number:.0f}"
    saves: list[Save] = []
    while True:
        session.barrier()
        try:
            saves.append(_save_once(saver, session, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        spent_s = session.largest(sum(save.write_s for save in saves))
        if len(saves) == MAX_SAVES or spent_s >= MAX_SAVING_S:
            return _readings(saves, session)


def _save_once(saver: Saver, session: Session, folder: Path) -> Save:
    problem, result = "", Save(0.0, 0.0, 0)
    try:
        problem = space_problem(folder.parent, saver.state_bytes()) or ""
        folder.mkdir(exist_ok=True)
    except OSError as error:
        problem = describe_exception(error)
    _fail_together(session, problem)
    try:
        result = saver.save(folder)
    # Its CheckpointException is none of Exception's.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        problem = no_space(folder.parent) if is_full(folder.parent) else describe_exception(error)
    _fail_together(session, problem)
    return result


def _fail_together(session: Session, problem: str) -> None:
    if session.largest(float(bool(problem))):
        raise CheckpointFailure(problem)


def space_problem(folder: Path, needed_bytes: int) -> str | None:
    """Why a folder can't take so many bytes, in one line; ``None`` where it can."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes > needed_bytes:
        return None
    return f"{no_space(folder)}: it needs {needed_bytes:,} bytes, and {free_bytes:,} are free"


def no_space(folder: Path) -> str:
    """That a disk is full, with the remedy."""
    return f"no space for a checkpoint on the disk of {folder} (another folder: --set checkpoint_folder=FOLDER)"


def unknown_readings(reason: str) -> tuple[Reading, ...]:
    """The readings without values."""
    return tuple(Reading(name=name, value=None, unit=unit, reason=reason) for name, unit in CHECKPOINT_READINGS.items())


def _readings(saves: list[Save], session: Session) -> tuple[Reading, ...]:
    import torch

    stall_s = session.largest(median(save.stall_s for save in saves))
    write_s = session.largest(median(save.write_s for save in saves))
    own_bytes = torch.tensor([median(save.size_bytes for save in saves)], dtype=torch.float64)
    size_bytes = float(session.all_reduce_sum(own_bytes)[0])
    values = (stall_s, stall_s / (size_bytes / GIGABYTE), write_s, size_bytes, size_bytes / write_s)
    named = zip(CHECKPOINT_READINGS.items(), values, strict=True)
    return tuple(Reading(name=name, value=value, unit=unit) for (name, unit), value in named)


class Saver(ABC):
    """Saves the state of a work in one of the three ways, on every rank.

    Args:
        work: The work.
        session: The group of ranks.
        step_s: How long a step takes on this rank, in seconds.
        clock: The clock, in seconds.
    """

    def __init__(self, work: TrainingWork, session: Session, step_s: float, clock: Clock) -> None:
        self.work, self.session, self.step_s, self.clock = work, session, step_s, clock

    def impossible(self) -> str | None:
        """Why these ranks can't save in this way, in one line."""
        return None

    def state(self) -> dict[str, Any]:
        """What this rank saves."""
        return self.session.saved_state(self.work.model, self.work.optimizer)

    def state_bytes(self) -> int:
        """The bytes that this rank may have to write."""
        return tensor_bytes(self.state())

    @abstractmethod
    def save(self, folder: Path) -> Save:
        """Save once into an existing, empty folder."""


class BlockingSaver(Saver):
    def state_bytes(self) -> int:
        # Gathering it for this alone would take as long as a save.
        return tensor_bytes(self.state(), whole=True) if self.session.rank == 0 else 0

    def save(self, folder: Path) -> Save:
        import torch

        synchronize(self.session.device)
        began_s = self.clock()
        state = self.session.whole_state(self.work.model, self.work.optimizer)
        file = folder / "checkpoint.pt"
        problem: BaseException | None = None
        if self.session.rank == 0:
            try:
                torch.save(state, file)
            except (OSError, RuntimeError) as error:
                problem = error
        # The others wait for rank 0, whether it fails or not.
        self.session.barrier()
        stall_s = self.clock() - began_s
        if problem is not None:
            raise problem
        if self.session.rank == 0:
            with file.open("rb") as written:
                os.fsync(written.fileno())
        return Save(stall_s, self.clock() - began_s, file.stat().st_size if self.session.rank == 0 else 0)


class DistributedSaver(Saver):
    def __init__(self, work: TrainingWork, session: Session, step_s: float, clock: Clock) -> None:
        super().__init__(work, session, step_s, clock)
        self.group = session.checkpoint_group()

    def impossible(self) -> str | None:
        if self.group is None and self.session.world > 1:
            return "torch.distributed.checkpoint needs a process group of torch.distributed, and these ranks form none"
        return None

    def save(self, folder: Path) -> Save:
        from torch.distributed import checkpoint

        synchronize(self.session.device)
        began_s = self.clock()
        checkpoint.save(self.state(), checkpoint_id=folder, process_group=self.group, no_dist=self.group is None)
        stall_s = self.clock() - began_s
        return Save(stall_s, stall_s, written_bytes(folder, self.session.rank))


class AsyncSaver(Saver):
    def __init__(self, work: TrainingWork, session: Session, step_s: float, clock: Clock) -> None:
        super().__init__(work, session, step_s, clock)
        # Of its own: a thread must not exchange in the same group as the steps do meanwhile.
        self.group = session.checkpoint_group()

    def save(self, folder: Path) -> Save:
        from torch.distributed import checkpoint

        done_s: list[float] = []
        synchronize(self.session.device)
        began_s = self.clock()
        future: Any = Future()
        if self.group is None and self.session.rank:
            future.set_result(None)
        else:
            try:
                future = checkpoint.async_save(
                    self.state(), checkpoint_id=folder, process_group=self.group, no_dist=self.group is None
                )
            except (OSError, RuntimeError) as error:
                # The other ranks take steps, in which this one has its part.
                future.set_exception(error)
            future.add_done_callback(lambda _: done_s.append(self.clock()))
        synchronize(self.session.device)
        call_s = self.clock() - began_s
        longer_s = self._steps_until(future.done)
        future.result()
        write_s = max(done_s, default=began_s) - began_s
        return Save(max(0.0, call_s + longer_s), write_s, written_bytes(folder, self.session.rank))

    def _steps_until(self, is_done: Callable[[], bool]) -> float:
        """Take steps until every rank is done; returns by how much they took longer than others, in seconds."""
        longer_s = 0.0
        while self.session.largest(float(not is_done())):
            longer_s += time_steps(self.work.step, 1, self.session.device, self.clock)[0] - self.step_s
        return longer_s


SAVERS: dict[str, type[Saver]] = {"blocking": BlockingSaver, "distributed": DistributedSaver, "async": AsyncSaver}


def tensor_bytes(state: Any, *, whole: bool = False) -> int:
    """The bytes of the tensors of a state; of sharded ones those of this rank's shards, or of the ``whole`` tensor."""
    from torch.utils._pytree import tree_leaves

    leaves = (leaf.to_local() if hasattr(leaf, "to_local") and not whole else leaf for leaf in tree_leaves(state))
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if hasattr(leaf, "element_size"))


def written_bytes(folder: Path, rank: int) -> int:
    """The size of what a rank has written into a distributed checkpoint: rank 0 writes the metadata too."""
    files = [*folder.glob(f"__{rank}_*"), *([folder / ".metadata"] if rank == 0 else ())]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size
    return total
