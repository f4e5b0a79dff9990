"""Whether a user's own program does the same work at each number of ranks, by what it reports of itself.

Nothing is known of a program's model and data, so that no single process can take its steps again. The parameters whose
gradients are exchanged must be equal on all ranks, where the exchange was found. Where the program
calls ``harness.report``, all ranks of a trial must hold equal parameters after the window, and the losses of its first
steps, the mean over the ranks weighted by their samples, must be those of the smallest number of ranks of its curve.
The samples of a step must be as many, so that this compares strong scaling alone.

A trial is judged when it is stored, before the other numbers of ranks are known: the losses are compared where its cell
is made. A stored trial is never changed by it. A program that takes other random numbers in each run has other losses
too: those of several trials of one cell tell it from other work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.core.records import RankRecord, Trial
from bench.core.reported import Reported
from bench.core.same_work import SameWork
from bench.plugins.backend import FLOAT32_TOLERANCE, ROUNDING
from reports.analysis import formatting
from reports.analysis.formatting import ranks as rank_count

COMPARED_STEPS = 16
"""The first reported steps, whose losses are compared: rounding grows with each step."""
ROUNDINGS = 4
"""A loss of float16 or bfloat16 may deviate by as many roundings of that type."""
MAX_AMOUNT_DEVIATION = 0.01
"""Of the samples of a step, between numbers of ranks: an incomplete last batch may be in a window."""
REMEDY = "call harness.report(loss=…, parameters=model) in each step of the program"
NOT_REPORTED = f"what a program computes is unknown: {REMEDY}"
NO_LOSSES = f"the program reported no losses: {REMEDY}"
NOT_COMPARED = "its losses are compared with those of other numbers of ranks"
REFERENCE = "the losses of other numbers of ranks are compared with its own"
ONE_RANK_COUNT = "the program's losses are compared across numbers of ranks, and its curve has one"


def judge_reported(records: Sequence[RankRecord]) -> SameWork:
    """What the ranks of one trial show alone: whether all hold equal parameters. ``records``: of a program."""
    if different := _parameters_differ(records):
        return SameWork(verdict="different", reason=different, quantity="parameters")
    return SameWork(verdict="unproven", reason=_unusable(records) or NOT_COMPARED)


def compare_reported(own: Sequence[Trial], curve: Sequence[Sequence[Trial]]) -> SameWork:
    """Whether the trials of a cell did the work of those of the smallest number of ranks of its curve.

    Args:
        own: The cell's successful trials, of a program; at least one.
        curve: The successful trials of each number of ranks of its curve, the smallest number first; its own too.
    """
    reference = curve[0]
    case, base = own[0].case, reference[0].case
    records = [trial.ranks for trial in (*own, *reference)]
    if reason := next(filter(None, map(_unusable, records)), None):
        return SameWork(verdict="unproven", reason=reason)
    if len(curve) == 1:
        return SameWork(verdict="unproven", reason=ONE_RANK_COUNT)
    amount, base_amount = own[0].ranks[0].amount_per_step, reference[0].ranks[0].amount_per_step
    if abs(amount / base_amount - 1) > MAX_AMOUNT_DEVIATION:
        return SameWork(
            verdict="unproven",
            reason=f"a step has {amount:g} {own[0].ranks[0].unit}, and {base_amount:g} at {rank_count(base.ranks)}: "
            "losses of other batches are not compared",
        )
    tolerance = _tolerance(case.tolerance, records)
    label = f"loss of the first steps against {rank_count(base.ranks)}"
    own_losses, base_losses = ([mean_losses(trial.ranks) for trial in trials] for trials in (own, reference))
    for losses, ranks in ((base_losses, base.ranks), (own_losses, case.ranks)):
        spread = _worst((other, losses[0]) for other in losses[1:])
        if spread is not None and spread.value > tolerance:
            return SameWork(
                verdict="unproven",
                reason=f"trials of {rank_count(ranks)} differ among themselves ({spread.quantity} by "
                f"{formatting.small(spread.value)}): give the program a seed (torch.manual_seed)",
            )
    if case.ranks == base.ranks:
        return SameWork(verdict="same", reason=REFERENCE)
    worst = _worst((losses, base_losses[0]) for losses in own_losses)
    if worst is None:
        return SameWork(verdict="unproven", reason=f"no step was reported here and at {rank_count(base.ranks)}")
    fields = {"deviation": worst.value, "tolerance": tolerance, "label": label, "quantity": worst.quantity}
    if worst.value <= tolerance:
        return SameWork(verdict="same", **fields)
    reason = f"{worst.quantity} deviates by {formatting.small(worst.value)} from {rank_count(base.ranks)}"
    if len(own) == len(reference) == 1:
        unknown = f"{reason}, and one trial of each does not tell other work from other random numbers: --repeats 2"
        return SameWork(verdict="unproven", reason=unknown, **fields)
    return SameWork(
        verdict="different", reason=f"{reason}, above the tolerance of {formatting.small(tolerance)}", **fields
    )


def mean_losses(records: Sequence[RankRecord]) -> dict[int, float]:
    """The losses by step, of those that all ranks reported: Σ samples·loss ÷ Σ samples over the ranks."""
    by_rank = [{loss.step: loss for loss in reported.losses} for reported in _reported(records)]
    common = set.intersection(*map(set, by_rank)) if by_rank else set()
    return {
        step: math.fsum(losses[step].value * losses[step].samples for losses in by_rank)
        / math.fsum(losses[step].samples for losses in by_rank)
        for step in sorted(common)[:COMPARED_STEPS]
    }


class _Deviation(NamedTuple):
    value: float
    quantity: str


def _worst(pairs: Iterable[tuple[Mapping[int, float], Mapping[int, float]]]) -> _Deviation | None:
    """The largest deviation of losses of the same step, relative to their size; ``None`` where no step is in both."""
    found = [
        _Deviation(abs(first[step] - second[step]) / max(abs(second[step]), 1e-12), f"loss of step {step}")
        for first, second in pairs
        for step in first.keys() & second.keys()
    ]
    return max(found, key=lambda deviation: deviation.value, default=None)


def _reported_by(record: RankRecord) -> Reported | None:
    return record.program.reported if record.program is not None else None


def _reported(records: Sequence[RankRecord]) -> list[Reported]:
    return [reported for record in records if (reported := _reported_by(record)) is not None]


def _unusable(records: Sequence[RankRecord]) -> str | None:
    """Why the losses of a trial can't be compared with those of another one, in one line."""
    reported = _reported(records)
    if not reported:
        return NOT_REPORTED
    if problem := next((one.problem for one in reported if one.problem), None):
        return problem
    with_losses = {record.rank for record in records if (one := _reported_by(record)) and one.losses}
    if not with_losses:
        return NO_LOSSES
    if silent := [record.rank for record in records if record.rank not in with_losses]:
        return f"rank {silent[0]} reported no losses: each rank reports its own"
    if random := next((one.random for one in reported if one.random), None):
        return f"its losses are not those of another number of ranks: {random}"
    return None


def _parameters_differ(records: Sequence[RankRecord]) -> str | None:
    """Which rank holds other parameters than the first one that reported whole ones, and when."""
    known = [
        (record.rank, reported.parameters.step, reported.parameters.digest)
        for record in records
        if (reported := _reported_by(record)) and reported.parameters and not reported.parameters.sharded
    ]
    if odd := [rank for rank, step, digest in known if (step, digest) != known[0][1:]]:
        return f"after the window rank {odd[0]} has different parameters from rank {known[0][0]}"
    exchanged = [(record.rank, record.phases.digest) for record in records if record.phases is not None]
    if odd := [rank for rank, digest in exchanged if digest != exchanged[0][1]]:
        return f"after the decomposition rank {odd[0]} has different parameters from rank {exchanged[0][0]}"
    return None


def _tolerance(given: float | None, trials: Iterable[Sequence[RankRecord]]) -> float:
    """The case's own, else that of float32 or of the coarsest type that a loss was computed in."""
    types = {one.arithmetic for records in trials for one in _reported(records)}
    coarse = [ROUNDINGS * relative for name, (relative, _) in ROUNDING.items() if name in types]
    return given if given is not None else max([FLOAT32_TOLERANCE.value, *coarse])
