"""What a rank measures after its window: decomposition, overhead, device time of a step, roofline, checkpoint. None is
worth the window.

A measurement that fails leaves a reason, and the record stands. The ranks take these measurements together, so a rank
on which one fails can't tell where the others are: it takes no further one and leaves, and where others wait for it,
theirs fail too. A failure that comes after everything that a measurement exchanges is a :class:`LocalFailure`: the rank
goes on with the next one. A record is kept before the first measurement, for a rank that does not come back from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.core.case import Case
from bench.core.records import CHECKPOINT, DECOMPOSITION, DEVICE_BUSY, OVERHEAD, ROOFLINE, RankRecord, Reading
from bench.core.step_measures import PhaseTimes
from bench.host.logs import MAX_ERROR_LENGTH, describe_exception, printable_line
from bench.host.resources import memory_peak_bytes
from bench.plugins.backend import Session
from bench.plugins.workload import TrainingWork, Work
from bench.rank.checkpoint import CheckpointFailure, measure_checkpoint, unknown_readings
from bench.rank.context import RankContext
from bench.rank.decompose import decompose
from bench.rank.device_busy import CudaQueue, measure_device_busy
from bench.rank.kept_peaks import device_peak
from bench.rank.measured_steps import after_the_window
from bench.rank.overhead import SamplerControl, measure_overhead, measuring_multiple
from bench.rank.peak import NO_MEMORY_FOR_PEAK
from bench.rank.roofline import count_step_work, peak_dtype
from bench.rank.tensors import digest_tensors

NEVER_ENDED = "the rank ended before it was measured"

Fields = dict[str, Any]
"""Fields of a record."""


class LocalFailure(Exception):
    """A measurement failed, and this rank has taken part in all that the ranks exchange for it.

    Args:
        reason: Why, in one line.
        elsewhere: It failed on another rank, whose record says why.
    """

    def __init__(self, reason: str, elsewhere: bool = False) -> None:
        super().__init__(reason)
        self.elsewhere = elsewhere


class Attempts:
    """Takes measurements one after the other, and remembers why some are missing."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        """The reasons, by the name of the measurement."""
        self.failed_at: float | None = None
        """When the first one failed, in seconds since the Unix epoch."""
        self._failed = ""

    def take(self, name: str, measure: Callable[[], Fields]) -> Fields:
        """The fields that ``measure`` gives; none where it fails, or another measurement has failed before."""
        if self._failed:
            self.missing[name] = f"not measured after {self._failed} had failed"
            return {}
        try:
            return measure()
        except LocalFailure as problem:
            reason = printable_line(str(problem)[:MAX_ERROR_LENGTH], MAX_ERROR_LENGTH)
            self.fail(name, reason, elsewhere=problem.elsewhere)
        except Exception as problem:
            self.fail(name, describe(problem))
            self._failed = name
        return {}

    def fail(self, name: str, reason: str, elsewhere: bool = False) -> None:
        """Remember that a measurement failed; the time is that of the rank on which it did."""
        self.missing[name] = reason
        if not elsewhere:
            self.failed_at = self.failed_at or time.time()


def describe(problem: BaseException) -> str:
    """The last line of an exception: its type and message."""
    return describe_exception(problem)


def complete(record: RankRecord, case: Case, work: Work, session: Session, context: RankContext) -> RankRecord:
    """Take the requested measurements and add them to the record of the window.

    Args:
        record: What the rank knows by the end of its window.
        case: The case; it says what is requested.
        work: The work, after its window.
        session: The group of ranks.
        context: What is to be known of this process.
    """
    checkpoint_wanted = isinstance(work, TrainingWork) and work.checkpoint != "none"
    requested = {
        DECOMPOSITION: case.decompose,
        OVERHEAD: case.own_cost and record.kind == "training",
        DEVICE_BUSY: case.decompose
        and record.kind == "training"
        and session.device != "cpu"
        and "emulated_compute" not in case.flags,
        ROOFLINE: case.roofline and "emulated_compute" not in case.flags,
        CHECKPOINT: checkpoint_wanted and session.checkpoint_reason is None,
    }
    cut_short = {name: NEVER_ENDED for name, is_requested in requested.items() if is_requested}
    if cut_short:
        context.keep(record.model_copy(update={"complete": False, "missing": cut_short}))
    attempts, fields, step_s = Attempts(), Fields(), median(record.step_s)
    if requested[DECOMPOSITION]:
        context.progress.enter("decomposition")
        fields |= attempts.take(DECOMPOSITION, lambda: _decompose(work, session, record, context))
    if requested[OVERHEAD]:
        context.progress.enter("further measurements")
        fields |= attempts.take(OVERHEAD, lambda: _overhead(work, session, record, context))
    if requested[DEVICE_BUSY]:
        context.progress.enter("further measurements")
        fields |= attempts.take(DEVICE_BUSY, lambda: _device_busy(case, work, session, step_s, context))
    first_s = record.stepping_s[0] if record.stepping_s else context.began_s
    fields |= {"stepping_s": (first_s, time.monotonic()), "memory_peak_bytes": memory_peak_bytes()}
    if requested[ROOFLINE]:
        context.progress.enter("further measurements")
        fields |= attempts.take(ROOFLINE, lambda: _roofline(case, work, session, step_s, context, attempts))
    if requested[CHECKPOINT]:
        context.progress.enter("further measurements")
        saved = attempts.take(CHECKPOINT, lambda: {"readings": _checkpoint(work, session, step_s, context)})
        readings = saved["readings"] if saved else unknown_readings(attempts.missing[CHECKPOINT])
        fields |= {"readings": (*record.readings, *readings)}
    elif checkpoint_wanted:
        fields |= {"readings": (*record.readings, *unknown_readings(session.checkpoint_reason or ""))}
    return record.model_copy(update={**fields, "missing": attempts.missing, "failed_at": attempts.failed_at})


def _decompose(work: Work, session: Session, record: RankRecord, context: RankContext) -> Fields:
    if not work.parts():
        return {}
    phases = decompose(work, session, median(record.step_s), context.clock, record.steps_per_entry)
    if phases is None:
        return {"phases_reason": session.no_sync_reason}
    return {"phases": PhaseTimes(**phases._asdict(), digest=digest_tensors(work.snapshot()))}


def _overhead(work: Work, session: Session, record: RankRecord, context: RankContext) -> Fields:
    step_s = session.largest(median(record.step_s))
    multiple = measuring_multiple(step_s, session.device)
    measured = after_the_window(work, record.steps_per_entry, session, context, multiple)
    sampler = SamplerControl(context.pause_sampling, context.hasten_sampling)
    cost, problem = measure_overhead(measured, work.step, session, sampler, step_s, multiple)
    if problem is not None:
        raise LocalFailure(problem)
    return {"own_cost": cost}


def _device_busy(case: Case, work: Work, session: Session, step_s: float, context: RankContext) -> Fields:
    on_device = min(case.ranks_per_gpu, case.ranks_on_a_node)
    measured = measure_device_busy(work, session, CudaQueue(), step_s, context.clock, ranks_on_device=on_device)
    return {"queued_steps": measured.queued, "queued_steps_reason": measured.reason}


def _checkpoint(work: Work, session: Session, step_s: float, context: RankContext) -> tuple[Reading, ...]:
    assert isinstance(work, TrainingWork)
    parent = Path(work.checkpoint_folder) if work.checkpoint_folder else context.folder
    if parent is None:
        return unknown_readings("this rank has no folder of its trial")
    try:
        return measure_checkpoint(work, session, step_s, parent, context.clock)
    except CheckpointFailure as problem:
        raise LocalFailure(str(problem), problem.elsewhere) from problem


def _roofline(
    case: Case, work: Work, session: Session, step_s: float, context: RankContext, attempts: Attempts
) -> Fields:
    """The work of a step and the peak of the device. Counting communicates nothing where steps can do without it."""
    if not work.parts():
        return {}
    counted = None
    try:
        counted = count_step_work(work, session)
    except Exception as problem:
        if session.no_sync_reason is not None:
            raise
        attempts.fail(ROOFLINE, describe(problem))
    peak = device_peak(case, session, peak_dtype(counted), counted, step_s, context.scratch)
    return {"step_work": counted, "peak": peak, "peak_reason": None if peak else NO_MEMORY_FOR_PEAK}
