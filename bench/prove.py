"""The verified prefix of a trial: what one rank did, and what a single process gets for the same batches."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from bench.backends import Backend, Session
from bench.case import Case
from bench.progress import Progress
from bench.records import Reference, Tolerance, WorkProof
from bench.workloads import Work, Workload

FURTHEST_DEVIATION = 1e9


def prove(
    case: Case, backend: Backend, workload: Workload, session: Session, work: Work, progress: Progress
) -> WorkProof:
    """Take the verified prefix; on rank 0 also take it as a single process would, and compare.

    The reference is built from the same seed and the same global batches with a session of one rank, so that it
    needs no other trial to have run.
    """
    progress.enter("verified steps")
    samples, losses = work.verify(case.verify_steps)
    after = work.snapshot()
    progress.enter("reference of the verified steps")
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
