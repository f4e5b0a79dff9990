"""Whether all ranks together did the same work as a single process, judged from the ranks' records."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from bench.core.records import RankRecord
from bench.core.same_work import Reference, SameWork, Tolerance, WorkProof
from reports.analysis import formatting
from reports.analysis.reported_work import judge_reported

DIFFERENT_WORK = "not the same work"
"""The beginning of the reason of a trial that is invalid because it did other work, and of its cell's."""


def judge_same_work(records: Sequence[RankRecord]) -> SameWork:
    """Compare the verified prefix of all ranks with rank 0's reference.

    The work is the same where the ranks' samples, interleaved, are the reference's in the same order; the mean of their
    losses, their gradients and their updates equal the reference's within the tolerance; and all ranks hold identical
    parameters before the prefix, after it and at the end. It is unproven where the model is random, so that no two
    passes are alike, and where no verified step updated anything. Of a user's own program it is what the program
    reports (:mod:`reports.analysis.reported_work`).
    """
    if records and records[0].kind == "program":
        return judge_reported(records)
    proofs = [record.proof for record in records if record.proof is not None]
    reference = proofs[0].reference if proofs else None
    if len(proofs) != len(records) or reference is None:
        return SameWork(verdict="unproven", reason="the verified prefix was switched off (verify_steps = 0)")
    tolerance = proofs[0].tolerance
    worst = largest_deviation(proofs, reference)
    reason = (
        _samples_differ(proofs, reference)
        or _ranks_differ("before the first step", [proof.start_digest for proof in proofs], "parameters or buffers")
        or _start_differs(proofs[0], reference)
        or _ranks_differ("after the verified prefix", [proof.digest for proof in proofs])
        or _ranks_differ("at the end", [record.final_digest for record in records])
        or _ranks_differ("after the decomposition", [r.phases.digest for r in records if r.phases is not None])
        or reference.coupled
        or (None if reference.random else _exceeds_tolerance(worst))
    )
    incomparable = reference.random or _nothing_updated(reference)
    unproven = incomparable is not None and reason is None
    return SameWork(
        verdict="unproven" if unproven else "different" if reason else "same",
        deviation=None if incomparable else worst.value,
        tolerance=worst.tolerance,
        label=_label(tolerance, reference),
        reason=reason or incomparable,
        quantity=worst.quantity,
        rounding=reference.rounding,
    )


class Deviation(NamedTuple):
    """How far a quantity is from the reference's, and how far it may be, both relative to its size."""

    value: float
    tolerance: float
    quantity: str

    @property
    def excess(self) -> float:
        """Above 1 it is too far; infinite where it is not a number."""
        return math.inf if math.isnan(self.value) else self.value / self.tolerance


def largest_deviation(proofs: Sequence[WorkProof], reference: Reference) -> Deviation:
    """Of losses, gradients and updates (in older records: of losses and parameters), relative to its tolerance."""
    tolerance = proofs[0].tolerance.value
    found = [Deviation(reference.deviation, reference.tolerance or tolerance, reference.quantity or "parameters")]
    for step, expected in enumerate(reference.losses):
        losses = [proof.losses[step] for proof in proofs]
        difference = abs(math.fsum(losses) / len(losses) - expected)
        # A mean near zero of losses that are not is known as well as they are.
        size = max(abs(expected), math.fsum(map(abs, losses)) / len(losses), 1e-12)
        found.append(Deviation(difference / size, reference.loss_tolerance or tolerance, f"loss of step {step}"))
    return max(found, key=lambda deviation: deviation.excess)


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


def _ranks_differ(when: str, digests: Sequence[str | None], what: str = "parameters") -> str | None:
    odd = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    return f"{when} rank {odd[0]} has different {what} from rank 0" if odd else None


def _start_differs(proof: WorkProof, reference: Reference) -> str | None:
    if proof.start_digest == reference.start_digest:
        return None
    return "before the first step the ranks have other parameters or buffers than a single process with the same seed"


def _nothing_updated(reference: Reference) -> str | None:
    if reference.overflows < len(reference.losses) or not reference.losses:
        return None
    return (
        f"all {reference.overflows} verified steps updated nothing: a scaled gradient overflowed, also in the reference"
    )


def _exceeds_tolerance(worst: Deviation) -> str | None:
    if worst.excess <= 1:
        return None
    return (
        f"{worst.quantity}: deviates by {formatting.small(worst.value)} from a single process, above the tolerance of "
        f"{formatting.small(worst.tolerance)}"
    )


def _label(tolerance: Tolerance, reference: Reference) -> str:
    """What the tolerance is for, and what the comparison had to leave out."""
    parts = [tolerance.label]
    if reference.arithmetic not in (None, "float32", "float64"):
        parts.append(f"rounding of {reference.arithmetic}")
    if reference.overflows:
        parts.append(f"{reference.overflows} of {len(reference.losses)} verified steps overflowed and updated nothing")
    if reference.evaluation_mode:
        parts.append("without dropout")
    return ", ".join(parts)
