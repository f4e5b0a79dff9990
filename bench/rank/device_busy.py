"""Measures how long the device needs for a step, without the gaps in which it waits for the host.

A step of short operations keeps the device waiting: it has ended each before the host has launched the next. So the
device is held while the host enqueues some steps behind the hold; when that ends, all of their launches wait in the
device's queue, and the time from the end of the hold to the end of the steps is what the device needs for them. Blocks
of ordinary steps alternate with that. What an ordinary step takes beyond a queued one is the time in which the device
waits for the host.

All ranks hold their devices together, so that exchanges on the device find their partners. The hold of one rank ends a
little before that of another, and a queued exchange waits for that: the rank that was released last has the time of
the step (:mod:`reports.analysis.device_busy`).

A step that waits for the device itself, such as one that reads its loss, can't be queued: the host would wait until the
hold has ended. Neither can one of more launches than the queue holds (about 1,024), where the host waits likewise. It
shows by the hold having ended before all was enqueued, and is a reason, not a number. Sessions whose exchange waits on
the host (:attr:`bench.plugins.backend.Session.host_wait_reason`) are measured by steps without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from bench.core.step_measures import QueuedSteps
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.clock import Clock

BLOCKS, FEW_BLOCKS = 5, 3
MAX_ATTEMPTS = 16
MAX_STEPS = 16
BLOCK_S = 0.05
LONG_STEP_S = 0.1
"""Of longer steps there are fewer blocks, since each costs three of them."""
MAX_STEP_S = 1.0
"""The time that the host needs for a longer step is rarely what counts, and measuring it takes minutes."""
HOLD_MARGIN = 2.0
"""How many times the measured time of enqueuing the hold lasts at first."""
MIN_HOLD_S = 1e-3
CANNOT_BE_QUEUED = (
    "a step waits for the device, or has more launches than the device's queue holds: the device can't be fed ahead"
)
SHARED = "ranks share a GPU, and each would wait for the others' steps"


class DeviceQueue(Protocol):
    """The queue of the device that this rank computes on."""

    def hold(self, seconds: float) -> None:
        """Let the device wait for about this long before it begins what is enqueued next."""

    def mark(self) -> Any:
        """Enqueue a mark."""

    def has_passed(self, mark: Any) -> bool:
        """Whether the device has come to a mark."""

    def seconds_between(self, before: Any, after: Any) -> float:
        """The time between two marks on the device's clock, in seconds. Waits for the second one."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was enqueued."""


class DeviceBusyResult(NamedTuple):
    """The measured steps, with the exchange and without; or why there are none."""

    queued: tuple[QueuedSteps, ...] = ()
    reason: str | None = None


def measure_device_busy(
    work: Work,
    session: Session,
    queue: DeviceQueue,
    step_s: float,
    clock: Clock = time.perf_counter,
    ranks_on_device: int = 1,
) -> DeviceBusyResult:
    """Time queued steps and ordinary ones. Called on every rank.

    Args:
        work: A built workload, after its window.
        session: The group of ranks.
        queue: The queue of this rank's device.
        step_s: About how long a step takes on this rank, in seconds.
        clock: The host's clock, in seconds.
        ranks_on_device: How many ranks compute on each device.
    """
    if ranks_on_device > 1:
        return DeviceBusyResult(reason=SHARED)
    slowest_s = session.largest(step_s)
    if slowest_s > MAX_STEP_S:
        return DeviceBusyResult(reason=f"a step takes longer than {MAX_STEP_S:g} s")
    found: list[QueuedSteps | None] = []
    if session.host_wait_reason is None:
        found.append(_measure(work.step, session, queue, slowest_s, clock, exchanged=True))
    if session.no_sync_reason is None and (session.world > 1 or session.host_wait_reason is not None):
        saved = work.save()
        session.barrier()
        with session.no_sync():
            found.append(_measure(work.step, session, queue, slowest_s, clock, exchanged=False))
            session.barrier()
        work.restore(saved)
    queued = tuple(steps for steps in found if steps is not None)
    if queued:
        return DeviceBusyResult(queued)
    return DeviceBusyResult(reason=CANNOT_BE_QUEUED if found else session.host_wait_reason)


def _measure(
    step: Callable[[], Any], session: Session, queue: DeviceQueue, step_s: float, clock: Clock, *, exchanged: bool
) -> QueuedSteps | None:
    """Blocks of queued steps, each followed by one of ordinary steps; ``None`` where steps can't be queued.

    All ranks know of each block on which of them it failed, and go on alike.
    """
    steps = max(1, min(MAX_STEPS, math.ceil(BLOCK_S / max(step_s, 1e-9))))
    enqueue_s = session.largest(max(_time_enqueuing(step, queue, clock) for _ in range(2)))
    blocks = BLOCKS if step_s <= LONG_STEP_S else FEW_BLOCKS
    margin, failures = HOLD_MARGIN, 0
    queued_s: list[float] = []
    stepped_s: list[float] = []
    for _ in range(MAX_ATTEMPTS):
        session.barrier()
        block_s = _time_queued(step, steps, queue, max(MIN_HOLD_S, margin * steps * enqueue_s))
        if session.largest(float(block_s is None)):
            # Once may be the host's noise. Then too many launches are: fewer steps, and their times are others.
            failures += 1
            margin *= 2 if failures == 1 else 1
            if failures > 1:
                if steps == 1:
                    return None
                steps = max(1, steps // 2)
                queued_s, stepped_s = [], []
            continue
        assert block_s is not None
        session.barrier()
        queued_s.append(block_s / steps)
        stepped_s.append(_time_ordinary(step, steps, queue) / steps)
        if len(queued_s) == blocks:
            return QueuedSteps(exchanged=exchanged, steps=steps, queued_s=tuple(queued_s), stepped_s=tuple(stepped_s))
    return None


def _time_enqueuing(step: Callable[[], Any], queue: DeviceQueue, clock: Clock) -> float:
    """How long the host needs to enqueue a step, in seconds."""
    queue.synchronize()
    began_s = clock()
    step()
    enqueued_s = clock() - began_s
    queue.synchronize()
    return enqueued_s


def _time_queued(step: Callable[[], Any], steps: int, queue: DeviceQueue, hold_s: float) -> float | None:
    """How long the device needs for steps that were enqueued while it was held; ``None`` where the hold ended before
    that."""
    queue.synchronize()
    queue.hold(hold_s)
    released = queue.mark()
    for _ in range(steps):
        step()
    done = queue.mark()
    was_held = not queue.has_passed(released)
    queue.synchronize()
    return queue.seconds_between(released, done) if was_held else None


def _time_ordinary(step: Callable[[], Any], steps: int, queue: DeviceQueue) -> float:
    """How long the same steps take on the device while the host enqueues them."""
    queue.synchronize()
    # The device has nothing to do before the first one.
    step()
    began = queue.mark()
    for _ in range(steps):
        step()
    done = queue.mark()
    queue.synchronize()
    return queue.seconds_between(began, done)


class CudaQueue:
    """The current stream of the current CUDA device.

    The hold is a kernel that spins for a number of cycles, whose rate is measured first.

    Raises:
        RuntimeError: This torch has no such kernel.
    """

    CALIBRATION_CYCLES = 1_000_000

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda
        # No public name of torch's.
        self._spin = getattr(torch.cuda, "_sleep", None)
        if self._spin is None:
            raise RuntimeError("this version of torch has no kernel that holds the device (torch.cuda._sleep)")
        # The first one loads the kernel. Clocks that are low at first rise: the highest rate makes no hold too short.
        self.cycles_per_s = max(self._measure_rate() for _ in range(3))

    def _measure_rate(self) -> float:
        assert self._spin is not None
        before = self.mark()
        self._spin(self.CALIBRATION_CYCLES)
        return self.CALIBRATION_CYCLES / max(self.seconds_between(before, self.mark()), 1e-9)

    def hold(self, seconds: float) -> None:
        assert self._spin is not None
        self._spin(int(seconds * self.cycles_per_s))

    def mark(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def has_passed(self, mark: Any) -> bool:
        return bool(mark.query())

    def seconds_between(self, before: Any, after: Any) -> float:
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3

    def synchronize(self) -> None:
        self._cuda.synchronize()
