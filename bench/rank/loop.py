"""One rank's measurement: verified prefix, warm-up, measured window, what comes after it. It judges nothing."""

from __future__ import annotations

import gc
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any, NamedTuple

from bench.core.case import Case
from bench.core.records import Gradients, PhaseTimes, RankRecord, Window
from bench.host.resources import device_name, device_uuid, memory_peak_bytes
from bench.plugins.backend import Backend, Session
from bench.plugins.workload import Work, Workload
from bench.rank import faults
from bench.rank.clock import half_width, time_steps
from bench.rank.decompose import decompose
from bench.rank.overhead import measure_overhead
from bench.rank.progress import Progress
from bench.rank.roofline import NO_MEMORY_FOR_PEAK, count_step_work, measure_peak
from bench.rank.verify import digest_tensors, verify_prefix
from bench.rank.warmup import WarmupResult, warm_up

MAX_STRETCH = 3


class RankContext(NamedTuple):
    """What a rank is told of its process: when it began, where it may run, whom it keeps informed."""

    began_s: float
    cores: tuple[int, ...] = ()
    progress: Progress = Progress()
    pause_sampling: Callable[[], AbstractContextManager[None]] = nullcontext


def measure(case: Case, backend: Backend, workload: Workload, session: Session, context: RankContext) -> RankRecord:
    """Run the case on this rank and return what was measured."""
    progress = context.progress
    progress.enter("building the workload")
    work = workload.build(case, session)
    faults.delay_from_start(case.fault, session.rank, work)
    first_s = time.monotonic()
    proof = verify_prefix(case, backend, workload, session, work, progress) if case.verify_steps else None
    progress.enter("warm-up step")
    warmup = _warm_up(case, work, session, progress)
    progress.enter("measured step")
    step = progress.count_steps(faults.with_fault(case.fault, session.rank, work, work.step))
    step_s, window = _measure_window(case, work, session, step, warmup)
    progress.enter("further measurements")
    readings, messages = work.finish()
    final = digest_tensors(work.snapshot()) if workload.kind == "training" else None
    progress.enter("decomposition")
    phases = decompose(work, session, median(step_s)) if case.decompose else None
    digest_after = digest_tensors(work.snapshot()) if phases else ""
    cost = None
    if case.own_cost and workload.kind == "training":
        slowest_s = session.largest(median(step_s))
        cost = measure_overhead(progress.count_steps(work.step), work.step, session, context.pause_sampling, slowest_s)
    last_s, memory_bytes = time.monotonic(), memory_peak_bytes()
    progress.enter("further measurements")
    roof = _roofline(case, work, session)
    progress.enter("leaving")
    return RankRecord(
        rank=session.rank,
        world=session.world,
        host=platform.node(),
        pid=os.getpid(),
        device=device_name(session.device),
        gpu=device_uuid(session.device),
        kind=workload.kind,
        unit=work.unit,
        amount_per_step=work.amount_per_step,
        step_s=tuple(step_s),
        warmup_steps=warmup.steps,
        settled=warmup.settled if case.warmup is None else None,
        startup_s=first_s - context.began_s,
        stepping_s=(first_s, last_s),
        window=window,
        memory_peak_bytes=memory_bytes,
        cores=context.cores,
        proof=proof,
        final_digest=final,
        settings={"threads": str(case.threads), **session.settings()},
        readings=readings,
        messages=messages,
        phases=PhaseTimes(together_s=phases[0], alone_s=phases[1], digest=digest_after) if phases else None,
        phases_reason=session.no_sync_reason if case.decompose and work.parts() else None,
        own_cost=cost,
        gradients=_gradients(work, session),
        **roof,
    )


def _gradients(work: Work, session: Session) -> Gradients | None:
    sizes = work.gradient_bytes()
    return Gradients(tensor_bytes=sizes, grouping=session.grouping) if sizes and session.grouping else None


def _roofline(case: Case, work: Work, session: Session) -> dict[str, Any]:
    """The fields of the record that a roofline takes; none where it isn't asked for, or no model computes."""
    if not case.roofline or not work.parts() or "emulated_compute" in case.flags:
        return {}
    counted, peak = count_step_work(work, session), measure_peak(session)
    return {"step_work": counted, "peak": peak, "peak_reason": None if peak else NO_MEMORY_FOR_PEAK}


def _warm_up(case: Case, work: Work, session: Session, progress: Progress) -> WarmupResult:
    step = progress.count_steps(work.step)
    if case.warmup is None:
        return warm_up(step, session, work.warmup_steps)
    sized = not (work.fixed_steps or case.steps)
    # Sizing the window takes one step at least.
    times = time_steps(step, max(1, case.warmup) if sized else case.warmup, session.device)
    return WarmupResult(len(times), True, session.largest(median(times[len(times) // 2 :])) if times else 0.0)


def _measure_window(
    case: Case, work: Work, session: Session, step: Callable[[], Any], warmup: WarmupResult
) -> tuple[list[float], Window]:
    """The steps of the window: as many as were asked for, or as fill its time; more where that is not precise.

    Every rank takes the same number: what decides is the slowest's.
    """
    requested_steps = work.fixed_steps or case.steps
    filling_steps = math.ceil(case.window_s / max(warmup.step_s, 1e-9))
    steps = requested_steps or max(work.min_steps, min(work.max_steps, filling_steps))
    gc.collect()
    session.barrier()
    began_s, cpu_s = time.monotonic(), time.process_time()
    times = time_steps(step, steps, session.device)
    if case.precision is not None and not requested_steps:
        while len(times) < MAX_STRETCH * steps and session.largest(half_width(times)) > case.precision:
            times += time_steps(step, steps, session.device)
    return times, Window(began_s=began_s, ended_s=time.monotonic(), cpu_s=time.process_time() - cpu_s)
