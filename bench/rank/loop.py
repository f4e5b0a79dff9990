"""The measurement of one rank: verified steps, warm-up and measured window. It judges nothing.

What follows the window is in :mod:`bench.rank.after_window`.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from bench.core.bounds import amount_problem, as_number, describe_invalid, unit_problem
from bench.core.case import Case
from bench.core.gradients import Gradients
from bench.core.records import RankRecord, Reading, Window
from bench.core.step_measures import MessageTiming
from bench.core.text import one_line
from bench.host.machine import host_name
from bench.host.resources import compute_threads, device_name, device_uuid, memory_peak_bytes, thread_cores
from bench.host.running_code import sources_digest
from bench.plugins.backend import Backend, Session
from bench.plugins.workload import Work, Workload
from bench.rank import after_window, faults, random_pause
from bench.rank.clock import Clock, Timing, half_width, steps_per_mark, time_steps
from bench.rank.context import RankContext
from bench.rank.cuda_events import DeviceEvents, cost_on
from bench.rank.finite import StepResults, find_not_finite
from bench.rank.measured_steps import MeasuredSteps
from bench.rank.tensors import digest_tensors
from bench.rank.verify import verify_prefix

FURTHER: TypeAdapter[tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]] = TypeAdapter(
    tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]
)
MAX_STRETCH = 3
"""How many times its length a window that is not precise enough is extended to at most."""
WARMUP_BLOCK_S = 0.05
MAX_STEPS_PER_BLOCK = 200
SETTLED_TOLERANCE = 0.1
MAX_WARMUP_S = 2.0
MAX_BLOCKS = 12


class WarmupResult(NamedTuple):
    """How the warm-up ended: the same on all ranks."""

    steps: int
    settled: bool
    """Whether step times had settled."""
    step_s: float
    """The slowest rank's median step of the last block, in seconds."""


class Measured(NamedTuple):
    """The measured window."""

    timing: Timing
    every: int
    """The steps in a block, the same on all ranks."""
    steps: int
    window: Window


def measure(case: Case, backend: Backend, workload: Workload, session: Session, context: RankContext) -> RankRecord:
    """Run a case on this rank.

    Args:
        case: The case.
        backend: The backend that the case names.
        workload: The workload that the case names.
        session: The group of ranks, which this rank has joined.
        context: What is to be known of this process.

    Returns:
        The record of this rank.
    """
    progress = context.progress
    progress.enter("building the workload")
    work = workload.build(case, session)
    unit, amount_per_step = counted_work(work)
    faults.delay_from_start(case.fault, session.rank, work)
    first_s = time.monotonic()
    proof = None
    if case.verify_steps:
        proof = verify_prefix(case, backend, workload, session, work, progress, context.variables or {})
    results = StepResults(work)
    plain_step = results.keep_after(work.step)
    pause_s = random_pause.pause(case, session)
    progress.enter("warm-up step")
    mark_cost_s = _mark_cost_s(session)
    warmup = _warm_up(case, work, progress.count_steps(plain_step), session, context, mark_cost_s)
    # Without a warm-up nobody knows how long a step takes.
    every = steps_per_mark(mark_cost_s, warmup.step_s) if warmup.steps else 1
    step = faults.with_fault(case.fault, session.rank, work, results.keep_after(work.step, every))
    measured = measure_window(case, work, session, step, warmup, every, context)
    results.keep_last()
    timing = measured.timing
    cores, threads = thread_cores(), compute_threads()
    progress.enter("further measurements")
    not_finite = results.first_not_finite(proof.losses if proof else (), warmup.steps)
    readings, messages = read_further(work)
    final = None
    if workload.kind == "training":
        parameters = work.snapshot()
        final, not_finite = digest_tensors(parameters), not_finite or find_not_finite(parameters)
        del parameters
    record = RankRecord(
        rank=session.rank,
        world=session.world,
        host=host_name(),
        node=case.node_of_rank(session.rank),
        boot_id=context.boot_id,
        sources=sources_digest(),
        pid=os.getpid(),
        device=device_name(session.device),
        gpu=device_uuid(session.device),
        kind=workload.kind,
        unit=unit,
        amount_per_step=amount_per_step,
        step_s=tuple(timing.step_s),
        steps_per_entry=measured.every,
        last_entry_steps=measured.steps % measured.every or None,
        host_step_s=tuple(timing.host_step_s) if timing.host_step_s is not None else None,
        pause_s=pause_s,
        warmup_steps=warmup.steps,
        settled=warmup.settled if case.warmup is None else None,
        startup_s=first_s - context.began_s,
        stepping_s=(first_s, measured.window.ended_s),
        window=measured.window,
        memory_peak_bytes=memory_peak_bytes(),
        cores=cores,
        planned_cores=context.planned_cores,
        threads=threads,
        variables=context.variables,
        proof=proof,
        not_finite=not_finite,
        final_digest=final,
        settings={"threads": str(case.threads), **session.settings()},
        readings=readings,
        messages=messages,
        gradients=_gradients(work, session),
        sharded=session.sharded_units,
    )
    record = after_window.complete(record, case, work, session, context)
    progress.enter("leaving")
    return record


class UncountedWorkError(ValueError):
    """What a step of a workload counts is no work."""


def counted_work(work: Work) -> tuple[str, float]:
    """The unit of work and its amount in a step.

    Raises:
        UncountedWorkError: They are none; before anything is measured, so that no time is spent on it.
    """
    amount = getattr(work, "amount_per_step", None)
    for name, problem in (("unit", unit_problem(work.unit)), ("amount_per_step", amount_problem(amount))):
        if problem:
            raise UncountedWorkError(f"the workload's {name} {problem}")
    return work.unit, float(as_number(amount) or 0)


def read_further(work: Work) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
    """What the work measured besides, which never costs the window: what is no reading becomes one without a value."""
    returned = work.finish()
    try:
        readings, messages = returned
        return FURTHER.validate_python((tuple(readings), tuple(messages)))
    except (ValidationError, TypeError, ValueError) as problem:
        what = describe_invalid(problem) if isinstance(problem, ValidationError) else one_line(str(problem))
        reason = f"the workload returned no readings and messages: {what}"
        return (Reading(name="further_measurements", value=None, unit="1", reason=reason),), ()


def _gradients(work: Work, session: Session) -> Gradients | None:
    sizes = work.gradient_bytes()
    return Gradients(tensor_bytes=sizes, grouping=session.grouping) if sizes and session.grouping else None


def _mark_cost_s(session: Session) -> float:
    """What marking the end of a step takes on the device, in seconds, on the rank where it takes longest.

    On a CPU it is counted as nothing: a clock takes a tenth of a microsecond, and the ranks need not agree.
    """
    return 0.0 if session.device == "cpu" else session.largest(cost_on(session.device))


def _warm_up(
    case: Case, work: Work, step: Callable[[], Any], session: Session, context: RankContext, mark_cost_s: float
) -> WarmupResult:
    clock, events = context.clock, context.events
    if case.warmup is None:
        return warm_up(step, session, work.warmup_steps, clock=clock, mark_cost_s=mark_cost_s, events=events)
    sized = not (work.fixed_steps or case.steps)
    # At least one step, where the length of the window is derived from it.
    count = max(1, case.warmup) if sized or work.needs_warmup else case.warmup
    times = time_steps(step, count, session.device, clock, events=events)
    return WarmupResult(len(times), True, session.largest(median(times[len(times) // 2 :])) if times else 0.0)


def warm_up(
    step: Callable[[], Any],
    session: Session,
    min_warmup_steps: int,
    max_s: float = MAX_WARMUP_S,
    clock: Clock = time.perf_counter,
    mark_cost_s: float = 0.0,
    events: DeviceEvents | None = None,
) -> WarmupResult:
    """Take steps in blocks until the medians of two consecutive blocks agree, or the time for it is spent.

    The median of a block is that of the slowest rank and known to all ranks, so that all stop after the same step.

    Args:
        step: Takes one step.
        session: The group of ranks.
        min_warmup_steps: The number of steps that are taken at least, unless the time is spent before.
        max_s: The time for the warm-up, in seconds.
        clock: The clock, in seconds.
        mark_cost_s: What marking the end of a step takes, in seconds: the same on all ranks.
        events: What marks it on a device; by default CUDA's events.
    """
    first_s = session.largest(time_steps(step, 1, session.device, clock, events=events)[0])
    steps, medians, spent_s = 1, [first_s], 0.0
    while True:
        block = max(1, min(MAX_STEPS_PER_BLOCK, math.ceil(WARMUP_BLOCK_S / max(medians[-1], 1e-9))))
        every = min(block, steps_per_mark(mark_cost_s, medians[-1]))
        times = time_steps(step, block, session.device, clock, every, events)
        medians.append(session.largest(median(times)))
        steps += block
        spent_s += block * medians[-1]
        # The very first step imports and allocates: it does not count.
        settled = has_settled(medians[1:] if block > 1 else medians)
        if settled and steps >= min_warmup_steps:
            return WarmupResult(steps, True, medians[-1])
        if spent_s > max_s or len(medians) > MAX_BLOCKS:
            return WarmupResult(steps, settled, medians[-1])


def has_settled(medians: Sequence[float]) -> bool:
    """Whether the medians of the last two blocks differ by a tenth at most (pure)."""
    if len(medians) < 2:
        return False
    return abs(medians[-1] / max(medians[-2], 1e-12) - 1) <= SETTLED_TOLERANCE


def measure_window(
    case: Case,
    work: Work,
    session: Session,
    step: Callable[[], Any],
    warmup: WarmupResult,
    every: int,
    context: RankContext,
) -> Measured:
    """Time the steps of the window: as many as are given, or fill its time; more where it is not precise.

    All ranks take the same number of steps, for which the slowest rank counts.

    Args:
        case: The case.
        work: The work of this rank.
        session: The group of ranks.
        step: Takes one step of the window.
        warmup: How the warm-up ended.
        every: How many steps to take from one mark to the next at least, as far as there are so many.
        context: What is to be known of this process.
    """
    requested_steps = work.fixed_steps or case.steps
    filling_steps = math.ceil(case.target_window_s / max(warmup.step_s, 1e-9))
    steps = requested_steps or max(work.min_steps, min(work.max_steps, filling_steps))
    every = min(every, steps)
    if not requested_steps:
        steps = whole_blocks(steps, every, work.max_steps)
    measured = MeasuredSteps(step, every, session, context)
    gc.collect()
    session.barrier()
    # The sampler takes this moment for the beginning of the window.
    context.progress.enter("measured step")
    began_s, cpu_s = time.monotonic(), time.process_time()
    timing, taken = measured.time(steps), steps
    if case.precision is not None and not requested_steps:
        while taken < MAX_STRETCH * steps and session.largest(half_width(timing.step_s, every)) > case.precision:
            timing, taken = timing.followed_by(measured.time(steps)), taken + steps
    window = Window(began_s=began_s, ended_s=time.monotonic(), cpu_s=time.process_time() - cpu_s)
    return Measured(timing, every, taken, window)


def whole_blocks(steps: int, every: int, most: int) -> int:
    """About that many steps, in whole blocks: a window that is extended has a shorter one nowhere (pure).

    Args:
        steps: How many steps are needed, one block at least.
        every: The steps in a block.
        most: How many steps may be taken; the number is rounded up where it stays below.
    """
    rounded_up = -(-steps // every) * every
    return rounded_up if rounded_up <= max(most, steps) else steps // every * every
