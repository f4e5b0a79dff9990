"""The verified steps of a trial: what a rank computes, and what a single process computes for the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from bench.core.case import Case
from bench.core.same_work import Reference, Tolerance, WorkProof
from bench.plugins.backend import Backend, Session
from bench.plugins.workload import TrainingWork, Work, Workload
from bench.rank.comparison import MAX_DEVIATION
from bench.rank.kept_results import KeptResults, open_kept_results
from bench.rank.progress import Progress
from bench.rank.tensors import digest_tensors, distance
from bench.rank.training_proof import prove_training


def verify_prefix(
    case: Case,
    backend: Backend,
    workload: Workload,
    session: Session,
    work: Work,
    progress: Progress,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> WorkProof:
    """Take the verified steps; on rank 0 also take them as a single process would, and compare.

    The reference is computed from the same seed and the same global batches with a session of one rank: it depends on
    no other trial. What was found for the very same bits is kept (:mod:`bench.rank.kept_results`).

    Args:
        case: The case; ``verify_steps`` is the number of steps.
        backend: The backend that the case names, which states a tolerance.
        workload: The workload that the case names.
        session: The group of ranks.
        work: The workload built for this rank, before its first step.
        progress: Where the rank records its phase.
        variables: The environment variables that change what is measured, as this rank has inherited them.
    """
    progress.enter("verified steps")
    tolerance = tolerance_of(case, backend, workload)

    def make_reference() -> Any:
        return workload.build(reference_case(case, workload), backend.reference_session(case, session.device))

    first = session.rank == 0
    results = open_kept_results(case, backend, workload, session.device, variables) if first else None
    if isinstance(work, TrainingWork):
        proof = prove_training(work, make_reference if first else None, case.verify_steps, tolerance, results)
        session.barrier()
        return proof
    samples, losses = work.verify(case.verify_steps)
    final = work.snapshot()
    digest = digest_tensors(final)
    progress.enter("reference of the verified steps")
    reference = None
    if results is not None:
        reference = compare_with_reference(final, digest, make_reference, case.verify_steps, results)
        reference = reference.model_copy(update={"random": work.unproven_reason})
    session.barrier()
    return WorkProof(samples=samples, losses=losses, digest=digest, tolerance=tolerance, reference=reference)


def compare_with_reference(
    final: list[Any], digest: str, make_reference: Callable[[], Work], steps: int, results: KeptResults
) -> Reference:
    """What a single process computes, and how far the ranks' result is from it; taken from what is kept of that very
    result.

    Args:
        final: The tensors that the ranks have after the verified steps.
        digest: Their SHA-256.
        make_reference: Builds the work of a single process.
        steps: The number of verified steps.
        results: What is kept of earlier trials.
    """

    def compute() -> Reference:
        single_process = make_reference()
        start = single_process.snapshot()
        samples, losses = single_process.verify(steps)
        return Reference(samples=samples, losses=losses, deviation=deviation(final, single_process.snapshot(), start))

    reference = results.reference(f"result {digest}", compute)
    results.save()
    return reference.model_copy(update={"kept": results.computed == 0})


def reference_case(case: Case, workload: Workload) -> Case:
    """The case that the reference is built from (pure): its operations are executed as they are written."""
    return case.model_copy(update={"workload_options": {**case.workload_options, **workload.options.execution}})


def tolerance_of(case: Case, backend: Backend, workload: Workload) -> Tolerance:
    """The tolerance of a case (pure): the given one, else that of the workload's results or of the backend."""
    if case.tolerance is not None:
        return Tolerance(value=case.tolerance, label="set by --tolerance")
    if workload.tolerance is not None:
        return Tolerance(value=workload.tolerance, label=f"{workload.kind} of float numbers")
    return backend.tolerance(case)


def deviation(result: list[Any], reference: list[Any], start: list[Any]) -> float:
    """The largest ‖result − reference‖₂ ÷ ‖reference − start‖₂ over the tensors; NaN where one is NaN.

    Args:
        result: The tensors to compare.
        reference: Those that they should be, of the same shapes.
        start: Those before the first step.
    """
    worst = 0.0
    for actual, expected, before in zip(result, reference, start, strict=True):
        difference = distance(actual, expected)
        moved = distance(expected, before) if difference else 0.0
        ratio = 0.0 if difference == 0 else min(difference / moved, MAX_DEVIATION) if moved else MAX_DEVIATION
        worst = ratio if math.isnan(ratio) or ratio > worst else worst
    return worst
