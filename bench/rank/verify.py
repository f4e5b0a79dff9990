"""The verified steps of a trial: what a rank computes, and what a single process computes for the same batches."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from bench.core.case import Case
from bench.core.records import Reference, Tolerance, WorkProof
from bench.plugins.backend import Backend, Session
from bench.plugins.workload import Work, Workload
from bench.rank.progress import Progress

MAX_DEVIATION = 1e9
"""Stands for an infinite deviation, which JSON has not."""


def verify_prefix(
    case: Case, backend: Backend, workload: Workload, session: Session, work: Work, progress: Progress
) -> WorkProof:
    """Take the verified steps; on rank 0 also take them as a single process would, and compare.

    The reference is computed from the same seed and the same global batches with a session of one rank: it depends on
    no other trial.

    Args:
        case: The case; ``verify_steps`` is the number of steps.
        backend: The backend that the case names, which states a tolerance.
        workload: The workload that the case names.
        session: The group of ranks.
        work: The workload built for this rank, before its first step.
        progress: Where the rank records its phase.
    """
    progress.enter("verified steps")
    samples, losses = work.verify(case.verify_steps)
    final = work.snapshot()
    progress.enter("reference of the verified steps")
    tolerance = backend.tolerance(case)
    if workload.tolerance is not None:
        tolerance = Tolerance(value=workload.tolerance, label=f"{workload.kind} of float numbers")
    reference = None
    if session.rank == 0:
        single_process = workload.build(case, Session(device=session.device))
        start = single_process.snapshot()
        reference_samples, reference_losses = single_process.verify(case.verify_steps)
        reference = Reference(
            samples=reference_samples,
            losses=reference_losses,
            deviation=deviation(final, single_process.snapshot(), start),
        )
    session.barrier()
    return WorkProof(
        samples=samples, losses=losses, digest=digest_tensors(final), tolerance=tolerance, reference=reference
    )


def deviation(result: list[Any], reference: list[Any], start: list[Any]) -> float:
    """The largest ‖result − reference‖₂ ÷ ‖reference − start‖₂ over the tensors; NaN where one is NaN.

    Args:
        result: The tensors to compare.
        reference: Those that they should be, of the same shapes.
        start: Those before the first step.
    """
    worst = 0.0
    for actual, expected, before in zip(result, reference, start, strict=True):
        difference = float((actual.double() - expected.double()).norm())
        distance = float((expected.double() - before.double()).norm())
        ratio = 0.0 if difference == 0 else min(difference / distance, MAX_DEVIATION) if distance else MAX_DEVIATION
        worst = ratio if math.isnan(ratio) or ratio > worst else worst
    return worst


def digest_tensors(tensors: list[Any]) -> str:
    """The SHA-256 of the bytes of the tensors, in order."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()
