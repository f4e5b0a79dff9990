"""How long the windows of a cell's further trials should be, by the spread within and between the trials so far.

The mean of a window of T seconds varies by w ÷ T within a trial, where w is the variance of steps times their length,
and by b from one trial to the next, whatever T is. A trial takes c seconds besides its window. For the same total time,
the variance of a cell's mean is proportional to (b + w ÷ T) (c + T), which is least at

    T = √(c w ÷ b)

the optimal allocation of two-stage sampling (Cochran, Sampling Techniques, 3rd ed., §10.6). Where trials differ more
than steps do, windows are short, down to what readings need. They are never longer than the given one: trials count
alike, so that the first ones, whose windows nobody could choose, would keep their share of the variance. All variances
are of logarithms, so that they are relative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, variance
from typing import NamedTuple

from bench.core.case import Case
from bench.core.records import Trial
from bench.rank.clock import STUDENT_T_9, half_width
from reports.analysis.step_times import slowest_steps, throughput_of

LEAST_S, LEAST_WITHOUT_READINGS_S = 0.7, 0.25
"""The shortest window on a CPU, in seconds: three readings at the sampler's interval, and a mark at either end."""
LEAST_TRIALS = 2
MAX_POOLED, NOMINAL = 16, 8
"""In degrees of freedom: the variance between the trials of a cell counts as much as the cell has; that of all cells as
much as they have, up to a limit, since cells differ; and that for which the given window is the best one as much as
:data:`NOMINAL`. The estimate from a few trials is too often far too large or below 0 to go by it alone."""
DIGITS = 2


class TrialSpread(NamedTuple):
    """One trial."""

    log_rate: float
    within: float
    """The variance of the window's mean times the window's length, in seconds."""
    window_s: float
    other_s: float
    """What the trial took besides its window, in seconds."""


def spread_of(trial: Trial) -> TrialSpread | None:
    """What a trial says of its cell's spread (pure); ``None``: it has no number, or too few steps to say."""
    if trial.outcome != "ok" or trial.wall_s is None or not trial.ranks:
        return None
    window_s, rate = max(rank.measured_s for rank in trial.ranks), throughput_of(trial.ranks)
    error = half_width(slowest_steps(trial.ranks), trial.ranks[0].steps_per_entry) / STUDENT_T_9
    if not (0 < window_s < math.inf and 0 < rate < math.inf and error < math.inf):
        return None
    return TrialSpread(math.log(rate), error**2 * window_s, window_s, max(0.0, trial.wall_s - window_s))


def window_lengths(spreads: Mapping[str, Sequence[TrialSpread]], cases: Mapping[str, Case]) -> dict[str, float]:
    """The lengths of the next windows in seconds, by the keys of the cases (pure).

    Args:
        spreads: The trials of each cell so far, by key. Those of all cells say how much trials differ, since a few of a
            cell know little of it.
        cases: Those that are about to run, by key. One with too few trials is left out.
    """
    between = {key: _between(own) for key, own in spreads.items() if len(own) >= LEAST_TRIALS}
    freedom = sum(len(spreads[key]) - 1 for key in between)
    if not freedom:
        return {}
    pooled = sum((len(spreads[key]) - 1) * value for key, value in between.items()) / freedom
    lengths = {}
    for key, case in cases.items():
        if key not in between:
            continue
        own = spreads[key]
        # The first trial of a case measures more besides its window than later ones.
        other_s, within = min(one.other_s for one in own), median(one.within for one in own)
        estimates = (
            (len(own) - 1, between[key]),
            (min(freedom, MAX_POOLED), pooled),
            (NOMINAL, other_s * within / case.window_s**2),
        )
        b = sum(weight * value for weight, value in estimates) / sum(weight for weight, _ in estimates)
        length_s = optimal_length_s(other_s, within, b)
        least_s, most_s = bounds_s(case)
        lengths[key] = round(max(least_s, min(most_s, length_s)), DIGITS)
    return lengths


def optimal_length_s(other_s: float, within: float, between: float) -> float:
    """√(c w ÷ b), in seconds (pure); infinite where trials do not differ."""
    return math.sqrt(other_s * within / between) if between > 0 else math.inf


def bounds_s(case: Case) -> tuple[float, float]:
    """The shortest and the longest window of a case, in seconds (pure). Readings of GPUs need the given length."""
    least_s = LEAST_WITHOUT_READINGS_S if case.telemetry == "off" else LEAST_S
    return (min(case.window_s, least_s) if case.device == "cpu" else case.window_s), case.window_s


def _between(own: Sequence[TrialSpread]) -> float:
    """The unbiased estimate of the variance between trials; it may be negative."""
    return variance(one.log_rate for one in own) - fmean(one.within / one.window_s for one in own)
