"""One rank's measurement: verified prefix, warm-up, measured window, decomposition. It judges nothing."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import platform
import time
from statistics import median
from typing import Any

from bench.backends import Backend, Session
from bench.clock import time_steps
from bench.decompose import decompose
from bench.records import Case, PhaseTimes, RankRecord, Reference, Tolerance, WorkProof
from bench.workloads import Work, Workload

FURTHEST_DEVIATION = 1e9


def measure(case: Case, backend: Backend, workload: Workload, session: Session, began: float) -> RankRecord:
    """Run the case on this rank and return what was measured. ``began``: ``time.monotonic()`` at the rank's start."""
    work = workload.build(case, session)
    proof = prove(case, backend, workload, session, work) if case.verify_steps else None
    startup_s = time.monotonic() - began
    settle = work.warmup_steps if case.warmup is None else case.warmup
    sized = not (work.fixed_steps or case.steps)
    steps = _agree_on_steps(case, work, session, settle)
    gc.collect()
    session.barrier()
    step_s = time_steps(work.step, steps, session.device)
    readings, messages = work.finish()
    final = digest(work.snapshot()) if workload.kind == "training" else None
    phases = decompose(work, session, median(step_s)) if case.decompose else None
    afterwards = digest(work.snapshot()) if phases else ""
    return RankRecord(
        rank=session.rank,
        world=session.world,
        host=platform.node(),
        pid=os.getpid(),
        device=device_name(session.device),
        kind=workload.kind,
        unit=work.unit,
        amount_per_step=work.amount_per_step,
        step_s=tuple(step_s),
        warmup_steps=max(1, settle) if sized else settle,
        startup_s=startup_s,
        proof=proof,
        final_digest=final,
        settings={"threads": str(case.threads), **session.settings()},
        readings=readings,
        messages=messages,
        phases=PhaseTimes(together_s=phases[0], alone_s=phases[1], digest=afterwards) if phases else None,
    )


def _agree_on_steps(case: Case, work: Work, session: Session, settle: int) -> int:
    """Warm up, and return how many steps to measure: the same number on every rank."""
    wanted = work.fixed_steps or case.steps
    times = time_steps(work.step, settle if wanted else max(1, settle), session.device)
    if wanted:
        return wanted
    slowest_s = session.largest(median(times[len(times) // 2 :]))
    return max(work.min_steps, min(work.max_steps, math.ceil(case.window_s / max(slowest_s, 1e-9))))


def prove(case: Case, backend: Backend, workload: Workload, session: Session, work: Work) -> WorkProof:
    """Take the verified prefix; on rank 0 also take it as a single process would, and compare.

    The reference is built from the same seed and the same global batches with a session of one rank, so that it
    needs no other trial to have run.
    """
    samples, losses = work.verify(case.verify_steps)
    after = work.snapshot()
    allowed = backend.tolerance(case)
    if workload.tolerance is not None:
        allowed = Tolerance(value=workload.tolerance, label=f"{workload.kind} of float numbers")
    reference = None
    if session.rank == 0:
        alone = workload.build(case, Session(device=session.device))
        start = alone.snapshot()
        its_samples, its_losses = alone.verify(case.verify_steps)
        reference = Reference(
            samples=its_samples, losses=its_losses, deviation=deviation(after, alone.snapshot(), start)
        )
    session.barrier()
    return WorkProof(samples=samples, losses=losses, digest=digest(after), tolerance=allowed, reference=reference)


def deviation(result: list[Any], reference: list[Any], start: list[Any]) -> float:
    """Largest, over the tensors, of ‖result − reference‖₂ ÷ ‖reference − start‖₂; not a number stays one."""
    worst = 0.0
    for mine, its, before in zip(result, reference, start, strict=True):
        apart = float((mine.double() - its.double()).norm())
        moved = float((its.double() - before.double()).norm())
        ratio = 0.0 if apart == 0 else min(apart / moved, FURTHEST_DEVIATION) if moved else FURTHEST_DEVIATION
        worst = ratio if math.isnan(ratio) or ratio > worst else worst
    return worst


def digest(tensors: list[Any]) -> str:
    """SHA-256 over the bytes of the tensors, in order."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def device_name(device: str) -> str:
    if device == "cpu":
        return "cpu"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"
