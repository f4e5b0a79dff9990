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

from bench import faults
from bench.backends import Backend, Session
from bench.case import Case
from bench.clock import half_width, time_steps
from bench.decompose import decompose
from bench.device_peak import NO_ROOM, measure_peak
from bench.gradients import Gradients
from bench.own_cost import measure_own_cost
from bench.progress import Progress
from bench.prove import digest, prove
from bench.records import PhaseTimes, RankRecord, Window
from bench.step_work import count_step
from bench.usage import device_name, device_uuid, memory_peak_bytes
from bench.warmup import Settled, warm_up
from bench.workloads import Work, Workload

STRETCHED_AT_MOST = 3


class Surroundings(NamedTuple):
    """What a rank is told of its process: when it began, where it may run, whom it keeps informed."""

    began_s: float
    cores: tuple[int, ...] = ()
    progress: Progress = Progress()
    silence: Callable[[], AbstractContextManager[None]] = nullcontext


def measure(case: Case, backend: Backend, workload: Workload, session: Session, around: Surroundings) -> RankRecord:
    """Run the case on this rank and return what was measured."""
    progress = around.progress
    progress.enter("building the workload")
    work = workload.build(case, session)
    faults.slow_down(case.fault, session.rank, work)
    first_s = time.monotonic()
    proof = prove(case, backend, workload, session, work, progress) if case.verify_steps else None
    progress.enter("warm-up step")
    warm = _warm_up(case, work, session, progress)
    progress.enter("measured step")
    step = progress.counting(faults.armed(case.fault, session.rank, work, work.step))
    step_s, window = _measure_window(case, work, session, step, warm)
    progress.enter("further measurements")
    readings, messages = work.finish()
    final = digest(work.snapshot()) if workload.kind == "training" else None
    progress.enter("decomposition")
    phases = decompose(work, session, median(step_s)) if case.decompose else None
    afterwards = digest(work.snapshot()) if phases else ""
    cost = None
    if case.own_cost and workload.kind == "training":
        slowest_s = session.largest(median(step_s))
        cost = measure_own_cost(progress.counting(work.step), work.step, session, around.silence, slowest_s)
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
        warmup_steps=warm.steps,
        settled=warm.settled if case.warmup is None else None,
        startup_s=first_s - around.began_s,
        stepping_s=(first_s, last_s),
        window=window,
        memory_peak_bytes=memory_bytes,
        cores=around.cores,
        proof=proof,
        final_digest=final,
        settings={"threads": str(case.threads), **session.settings()},
        readings=readings,
        messages=messages,
        phases=PhaseTimes(together_s=phases[0], alone_s=phases[1], digest=afterwards) if phases else None,
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
    counted, peak = count_step(work, session), measure_peak(session)
    return {"step_work": counted, "peak": peak, "peak_reason": None if peak else NO_ROOM}


def _warm_up(case: Case, work: Work, session: Session, progress: Progress) -> Settled:
    step = progress.counting(work.step)
    if case.warmup is None:
        return warm_up(step, session, work.warmup_steps)
    sized = not (work.fixed_steps or case.steps)
    # Sizing the window takes one step at least.
    times = time_steps(step, max(1, case.warmup) if sized else case.warmup, session.device)
    return Settled(len(times), True, session.largest(median(times[len(times) // 2 :])) if times else 0.0)


def _measure_window(
    case: Case, work: Work, session: Session, step: Callable[[], Any], warm: Settled
) -> tuple[list[float], Window]:
    """The steps of the window: as many as were asked for, or as fill its time; more where that is not precise.

    Every rank takes the same number: what decides is the slowest's.
    """
    wanted = work.fixed_steps or case.steps
    filling = math.ceil(case.window_s / max(warm.step_s, 1e-9))
    steps = wanted or max(work.min_steps, min(work.max_steps, filling))
    gc.collect()
    session.barrier()
    began_s, cpu_s = time.monotonic(), time.process_time()
    times = time_steps(step, steps, session.device)
    if case.precision is not None and not wanted:
        while len(times) < STRETCHED_AT_MOST * steps and session.largest(half_width(times)) > case.precision:
            times += time_steps(step, steps, session.device)
    return times, Window(began_s=began_s, ended_s=time.monotonic(), cpu_s=time.process_time() - cpu_s)
