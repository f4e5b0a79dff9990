"""Calibration of the rule: false alarms on unchanged histories, and power on histories with a slowdown.

Suites of :data:`SUITE_SIZE` series are screened as a check would screen them, and suspects are confirmed by drawn
pairs. The histories are synthetic (:mod:`reports.regression.synthetic_histories`), or resampled from a store: nights
are drawn with replacement, and trials within them, so that no history contains a change; pairs are differences of two
trials of one night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.core.frozen_model import FrozenModel
from reports.regression.paired_test import Decision, confirm_all
from reports.regression.robust import Array, median
from reports.regression.rule import Rule
from reports.regression.screen import ScreenResult, SeriesArrays, screen, suspicion_threshold
from reports.regression.synthetic_histories import NoiseModel, SyntheticHistories, synthetic_histories
from reports.regression.values import Assurance, MetricSeries

HISTORY_NIGHTS = 30
DETECTION_DELAYS = (0, 1, 2, 3)
"""Further nights after the first slow one within which a slowdown has to be found."""
SUITE_SIZE = 50
MIN_RESAMPLED_NIGHTS = 10
"""Nights that a series needs to be resampled."""


class Proportion(FrozenModel):
    """A share with its 95 % interval (Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of


class Power(FrozenModel):
    """Share of slowdowns of one size that were found in time."""

    slowdown_pct: float
    nights_more: int
    """Within so many nights after the first slow one."""
    found: Proportion


class Calibration(FrozenModel):
    """Measured rates of the rule on one kind of history."""

    source: str
    false_alarms: Proportion
    improved: Proportion
    """Unchanged series that were called improved."""
    suspects: Proportion
    extra_trials: float
    """Trials spent on pairs of unchanged series, relative to the trials of their nights."""
    powers: tuple[Power, ...]


@dataclass(frozen=True)
class UnchangedSuite:
    """Series without a change.

    ``trials``: ln of seconds, shape (series, nights, trials). ``pairs(count, slowdown)`` draws ln(head ÷ base), shape
    (series, count).
    """

    trials: Array
    pairs: Callable[[int, float], Array]


SuiteFactory = Callable[[int, int], UnchangedSuite | None]
"""(number of series, seed) → a suite of unchanged series; ``None`` where there is no history."""


def synthetic_suite(model: NoiseModel, series: int, seed: int) -> UnchangedSuite:
    """A suite of synthetic series with :data:`HISTORY_NIGHTS` nights before the one to judge."""
    histories: SyntheticHistories = synthetic_histories(model, series, HISTORY_NIGHTS + 1 + max(DETECTION_DELAYS), seed)
    return UnchangedSuite(histories.trials, histories.pairs)


def resampled_suite(own: Sequence[MetricSeries], series: int, seed: int) -> UnchangedSuite | None:
    """A suite resampled from series; ``None`` where none has :data:`MIN_RESAMPLED_NIGHTS` nights of two trials."""
    rng = np.random.default_rng(seed)
    usable_series = [_nights(item) for item in own]
    usable_series = [nights for nights in usable_series if len(nights) >= MIN_RESAMPLED_NIGHTS]
    if not usable_series:
        return None
    trial_count = min(min(len(night) for night in nights) for nights in usable_series)
    trials = np.empty((series, HISTORY_NIGHTS + 1 + max(DETECTION_DELAYS), trial_count))
    chosen = rng.integers(len(usable_series), size=series)
    for row, index in enumerate(chosen):
        nights = usable_series[index]
        for column in range(trials.shape[1]):
            trials[row, column] = rng.choice(nights[rng.integers(len(nights))], trial_count)

    def pairs(count: int, slowdown: float) -> Array:
        drawn = np.empty((series, count))
        for row, index in enumerate(chosen):
            for column in range(count):
                night = usable_series[index][rng.integers(len(usable_series[index]))]
                head, base = rng.choice(night, 2, replace=False)
                drawn[row, column] = head - base
        return drawn + float(np.log1p(slowdown))

    return UnchangedSuite(trials, pairs)


def _nights(item: MetricSeries) -> list[Array]:
    """Trials of the good nights with at least two, minus the median of their accepted level."""
    good = [night for night in (*item.past, *((item.newest,) if item.newest else ())) if night.good]
    levels = {night.level for night in good}
    level_medians = {
        level: float(median(np.asarray([np.median(night.logs) for night in good if night.level == level])))
        for level in levels
    }
    return [np.asarray(night.logs) - level_medians[night.level] for night in good if len(night.logs) > 1]


def calibrate(
    make: SuiteFactory, source: str, checks: int, slowdowns: Sequence[float], rule: Rule
) -> Iterator[Calibration | float]:
    """Measure the rule. Yields the share done so far (0 to 1), and at last the calibration.

    Args:
        make: Makes the suites; nothing is yielded where it has no history.
        source: What the histories are, for people.
        checks: Number of unchanged series to judge. The power for each slowdown is measured on a tenth as many.
        slowdowns: 0.05 is 5 %.
        rule: The rule to measure.
    """
    suites = max(checks // SUITE_SIZE, 1)
    power_suites = max(suites // 10, 1)
    total = suites + power_suites * len(slowdowns) * len(DETECTION_DELAYS)
    counts: dict[str, int] = {"alarms": 0, "improved": 0, "suspects": 0, "pairs": 0, "trials": 0}
    detections = {(slowdown, delay): 0 for slowdown in slowdowns for delay in DETECTION_DELAYS}
    done = 0
    for seed in range(suites):
        suite = make(SUITE_SIZE, seed)
        if suite is None:
            return
        _count_unchanged(counts, suite, rule)
        done += 1
        if seed < power_suites:
            thresholds = _thresholds(suite, rule)
            for slowdown in slowdowns:
                for delay, detected in _count_detected(suite, slowdown, thresholds, rule).items():
                    detections[slowdown, delay] += detected
                done += len(DETECTION_DELAYS)
        yield done / total
    of = suites * SUITE_SIZE
    yield Calibration(
        source=source,
        false_alarms=proportion(counts["alarms"], of),
        improved=proportion(counts["improved"], of),
        suspects=proportion(counts["suspects"], of),
        extra_trials=2 * counts["pairs"] / counts["trials"],
        powers=tuple(
            Power(slowdown_pct=100 * slowdown, nights_more=delay, found=proportion(detected, power_suites * SUITE_SIZE))
            for (slowdown, delay), detected in detections.items()
        ),
    )


def proportion(count: int, of: int) -> Proportion:
    """``count`` of ``of`` with its interval."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, of - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 0.975)) if count < of else 1.0
    return Proportion(count=count, of=of, low=low, high=high)


def _count_unchanged(counts: dict[str, int], suite: UnchangedSuite, rule: Rule) -> None:
    """Add one check of a suite without a change to the counts."""
    trials = suite.trials[:, : HISTORY_NIGHTS + 1]
    screened = screen(_as_nights(trials), rule)
    suspects = screened.slower_z > screened.threshold
    decisions = _confirm_suspects(suite, 0.0, screened, suspects, rule)
    counts["alarms"] += sum(decision.answer == "slower" for decision in decisions)
    counts["suspects"] += int(suspects.sum())
    counts["pairs"] += sum(decision.used for decision in decisions)
    counts["improved"] += int((~suspects & (screened.faster_z < -rule.improvement_z)).sum())
    counts["improved"] += sum(decision.answer == "faster" for decision in decisions)
    counts["trials"] += trials.shape[0] * trials.shape[2]


def _thresholds(suite: UnchangedSuite, rule: Rule) -> list[float]:
    """Of the first slow night and those after it: they depend on older nights only, so not on the slowdown."""
    return [
        suspicion_threshold(_as_nights(suite.trials[:, : HISTORY_NIGHTS + 1 + delay]), rule)
        for delay in range(max(DETECTION_DELAYS) + 1)
    ]


def _count_detected(suite: UnchangedSuite, slowdown: float, thresholds: Sequence[float], rule: Rule) -> dict[int, int]:
    """Number of series found to be slower, by nights after the first slow one. All series are slowed."""
    slowed = suite.trials.copy()
    slowed[:, HISTORY_NIGHTS:] += np.log1p(slowdown)
    detected = np.zeros(len(slowed), dtype=bool)
    counts = {}
    for delay, threshold in enumerate(thresholds):
        screened = screen(_as_nights(slowed[:, : HISTORY_NIGHTS + 1 + delay]), rule, threshold)
        suspects = (screened.slower_z > threshold) & ~detected
        decisions = _confirm_suspects(suite, slowdown, screened, suspects, rule)
        detected[np.flatnonzero(suspects)] = [decision.answer == "slower" for decision in decisions]
        if delay in DETECTION_DELAYS:
            counts[delay] = int(detected.sum())
    return counts


def _confirm_suspects(
    suite: UnchangedSuite, slowdown: float, screened: ScreenResult, suspects: np.ndarray, rule: Rule
) -> list[Decision]:
    pairs = suite.pairs(rule.looks[-1], slowdown)
    return confirm_all(pairs[suspects], screened.pair_scale[suspects], rule, screened.slower_z[suspects])


def _as_nights(trials: Array) -> SeriesArrays:
    shape = trials.shape[:2]
    return SeriesArrays(trials, np.ones(shape, dtype=bool), np.zeros(shape, dtype=int))


DETECTION_SHARE = 0.95
"""Share of slowdowns of one size that must be found for the size to be quoted."""


def assurance_of(measured: Sequence[Calibration], command: str) -> Assurance:
    """Combine calibrations: false alarms add up, and a slowdown counts as found where every calibration found it."""
    alarms = proportion(
        sum(calibration.false_alarms.count for calibration in measured),
        sum(calibration.false_alarms.of for calibration in measured),
    )
    least: dict[tuple[int, float], float] = {}
    for power in (power for calibration in measured for power in calibration.powers):
        which = (power.nights_more, power.slowdown_pct)
        least[which] = min(power.found.value, least.get(which, 1.0))
    found_pct: dict[str, float] = {}
    for (more, size), value in sorted(least.items(), reverse=True):
        if value >= DETECTION_SHARE:
            found_pct[str(more + 1)] = round(size, 3)
    return Assurance(
        checks=alarms.of,
        false_alarms=alarms.count,
        false_alarm_rate=alarms.value,
        false_alarm_high=alarms.high,
        source=f"{' and '.join(calibration.source for calibration in measured)}; `{command}`",
        found_pct=found_pct,
    )
