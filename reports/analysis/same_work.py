"""Whether all ranks together did the same work as a single process, judged from the ranks' records."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from bench.core.records import RankRecord, Reference, SameWork, WorkProof


def judge_same_work(records: Sequence[RankRecord]) -> SameWork:
    """Compare the verified prefix of all ranks with rank 0's reference.

    The work is the same where the ranks' samples, interleaved, are the reference's in the same order; the mean of their
    losses and their parameters equal the reference's within the tolerance; and all ranks hold identical parameters
    after the prefix and at the end.
    """
    proofs = [record.proof for record in records if record.proof is not None]
    reference = proofs[0].reference if proofs else None
    if len(proofs) != len(records) or reference is None:
        return SameWork(verdict="unproven", reason="the verified prefix was switched off (verify_steps = 0)")
    tolerance = proofs[0].tolerance
    deviation = largest_deviation(proofs, reference)
    reason = (
        _samples_differ(proofs, reference)
        or _ranks_differ("after the verified prefix", [proof.digest for proof in proofs])
        or _ranks_differ("at the end", [record.final_digest for record in records])
        or _ranks_differ("after the decomposition", [r.phases.digest for r in records if r.phases is not None])
        or _exceeds_tolerance(deviation, tolerance.value)
    )
    return SameWork(
        verdict="different" if reason else "same",
        deviation=deviation,
        tolerance=tolerance.value,
        label=tolerance.label,
        reason=reason,
    )


def largest_deviation(proofs: Sequence[WorkProof], reference: Reference) -> float:
    """The largest relative deviation of losses and parameters from the reference; NaN where either is NaN."""
    worst = reference.deviation
    for step, expected in enumerate(reference.losses):
        mean = math.fsum(proof.losses[step] for proof in proofs) / len(proofs)
        relative_error = abs(mean - expected) / max(abs(expected), 1e-12)
        worst = relative_error if math.isnan(relative_error) or relative_error > worst else worst
    return worst


def interleave(shards: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Rank 0's first sample, rank 1's first, …, rank 0's second, …: the order that ``DistributedSampler`` splits."""
    interleaved = itertools.chain.from_iterable(itertools.zip_longest(*shards))
    return tuple(sample for sample in interleaved if sample is not None)


def _samples_differ(proofs: Sequence[WorkProof], reference: Reference) -> str | None:
    for step, expected in enumerate(reference.samples):
        taken = interleave([proof.samples[step] for proof in proofs])
        if taken != expected:
            missing = len(set(expected) - set(taken))
            return f"step {step}: the ranks did not take the reference's samples ({missing} of {len(expected)} missing)"
    return None


def _ranks_differ(when: str, digests: Sequence[str | None]) -> str | None:
    odd = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    return f"{when} rank {odd[0]} has different parameters from rank 0" if odd else None


def _exceeds_tolerance(deviation: float, tolerance: float) -> str | None:
    if deviation <= tolerance:
        return None
    return (
        f"losses or parameters deviate by {deviation:.2g} from a single process, above the tolerance of {tolerance:g}"
    )
