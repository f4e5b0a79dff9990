"""What the rule does, measured: on histories without a change how often it is wrong, on slowed ones what it finds.

Suites of some series are screened as a check would screen them, and suspects confirmed by drawn pairs. The histories
are made up (:mod:`reports.regression.synthetic_histories`), or a store's own: nights drawn with replacement, and in
each its trials, so that neither holds a change; pairs are differences of two trials of one night.

How often the rule is wrong, as measured: the numbers ship with the rule and are void when the rule changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from bench.core.frozen_model import FrozenModel
from reports.regression.paired_test import confirm_all
from reports.regression.robust import Array, median
from reports.regression.rule import RULE, Rule
from reports.regression.screen import SeriesArrays, screen
from reports.regression.synthetic_histories import NoiseModel, SyntheticHistories, synthetic_histories
from reports.regression.values import Assurance, MetricSeries

HISTORY_NIGHTS = 30
DETECTION_DELAYS = (0, 1, 3)
"""A slowdown is looked for on the night it lands, and within so many more."""
SUITE_SIZE = 50
MIN_RESAMPLED_NIGHTS = 10
"""Nights that a series needs before it is resampled."""


class Proportion(FrozenModel):
    """How many of how many, with the 95 % interval of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of


class Power(FrozenModel):
    """Slowdowns of one size that were found in time."""

    slowdown_pct: float
    nights_more: int
    """Within so many nights after the one on which it landed."""
    found: Proportion


class Calibration(FrozenModel):
    """What the rule was measured to do on one kind of history."""

    source: str
    false_alarms: Proportion
    improved: Proportion
    """Unchanged series that were called improved: an alarm to nobody, but as wrong."""
    suspects: Proportion
    extra_trials: float
    """Trials spent on pairs of unchanged series, over those of their nights."""
    powers: tuple[Power, ...]


@dataclass(frozen=True)
class UnchangedSuite:
    """``trials``: (series, nights, trials) of ln seconds; ``pairs(count, slowdown)``: (series, count)."""

    trials: Array
    pairs: Callable[[int, float], Array]


SuiteFactory = Callable[[int, int], UnchangedSuite | None]
"""Number of series, seed → a suite of unchanged series; ``None`` where there is no history."""


def synthetic_suite(world: NoiseModel, series: int, seed: int) -> UnchangedSuite:
    """Histories with one night to judge and as many more as power is asked for."""
    found: SyntheticHistories = synthetic_histories(world, series, HISTORY_NIGHTS + 1 + max(DETECTION_DELAYS), seed)
    return UnchangedSuite(found.trials, found.pairs)


def resampled_suite(own: Sequence[MetricSeries], series: int, seed: int) -> UnchangedSuite | None:
    """From a store's own series; ``None`` where none has :data:`MIN_RESAMPLED_NIGHTS` nights of two trials."""
    rng = np.random.default_rng(seed)
    usable_series = [_nights(one) for one in own]
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
        found = np.empty((series, count))
        for row, index in enumerate(chosen):
            for column in range(count):
                night = usable_series[index][rng.integers(len(usable_series[index]))]
                head, base = rng.choice(night, 2, replace=False)
                found[row, column] = head - base
        return found + float(np.log1p(slowdown))

    return UnchangedSuite(trials, pairs)


def _nights(one: MetricSeries) -> list[Array]:
    """Good nights with two trials and more, each less the median of its accepted level."""
    there = [night for night in (*one.past, *((one.newest,) if one.newest else ())) if night.good]
    levels = {night.level for night in there}
    level_medians = {
        level: float(median(np.asarray([np.median(night.logs) for night in there if night.level == level])))
        for level in levels
    }
    return [np.asarray(night.logs) - level_medians[night.level] for night in there if len(night.logs) > 1]


def calibrate(
    make: SuiteFactory, source: str, checks: int, slowdowns: Sequence[float], rule: Rule
) -> Iterator[Calibration | float]:
    """Shares done as they come, between 0 and 1, then the calibration; nothing where there is no history.

    ``slowdowns``: 0.05 is 5 %. Power is measured on a tenth
    of the checks for each.
    """
    suites = max(checks // SUITE_SIZE, 1)
    power_suites = max(suites // 10, 1)
    total = suites + power_suites * len(slowdowns) * len(DETECTION_DELAYS)
    counts: dict[str, int] = {"alarms": 0, "improved": 0, "suspects": 0, "pairs": 0, "trials": 0}
    found = {(slowdown, delay): 0 for slowdown in slowdowns for delay in DETECTION_DELAYS}
    done = 0
    for seed in range(suites):
        suite = make(SUITE_SIZE, seed)
        if suite is None:
            return
        _count_unchanged(counts, suite, rule)
        done += 1
        if seed < power_suites:
            for slowdown in slowdowns:
                for delay, detected in _count_detected(suite, slowdown, rule).items():
                    found[slowdown, delay] += detected
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
            for (slowdown, delay), detected in found.items()
        ),
    )


def proportion(count: int, of: int) -> Proportion:
    """With its interval."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, of - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 0.975)) if count < of else 1.0
    return Proportion(count=count, of=of, low=low, high=high)


def _count_unchanged(counts: dict[str, int], suite: UnchangedSuite, rule: Rule) -> None:
    """One check of a suite without a change."""
    trials = suite.trials[:, : HISTORY_NIGHTS + 1]
    screened = screen(_as_nights(trials), rule)
    suspects = screened.slower_z > screened.threshold
    decisions = confirm_all(suite.pairs(rule.looks[-1], 0.0)[suspects], screened.pair_scale[suspects], rule)
    counts["alarms"] += sum(one.answer == "slower" for one in decisions)
    counts["suspects"] += int(suspects.sum())
    counts["pairs"] += sum(one.used for one in decisions)
    counts["improved"] += int((~suspects & (screened.faster_z < -rule.improvement_z)).sum())
    counts["improved"] += sum(one.answer == "faster" for one in decisions)
    counts["trials"] += trials.shape[0] * trials.shape[2]


def _count_detected(suite: UnchangedSuite, slowdown: float, rule: Rule) -> dict[int, int]:
    """How many of the suite's series are found, by nights after the one on which all of them were slowed."""
    slowed = suite.trials.copy()
    slowed[:, HISTORY_NIGHTS:] += np.log1p(slowdown)
    detected = np.zeros(len(slowed), dtype=bool)
    found = {}
    for delay in range(max(DETECTION_DELAYS) + 1):
        screened = screen(_as_nights(slowed[:, : HISTORY_NIGHTS + 1 + delay]), rule)
        suspects = (screened.slower_z > screened.threshold) & ~detected
        decisions = confirm_all(suite.pairs(rule.looks[-1], slowdown)[suspects], screened.pair_scale[suspects], rule)
        detected[np.flatnonzero(suspects)] = [one.answer == "slower" for one in decisions]
        if delay in DETECTION_DELAYS:
            found[delay] = int(detected.sum())
    return found


def _as_nights(trials: Array) -> SeriesArrays:
    shape = trials.shape[:2]
    return SeriesArrays(trials, np.ones(shape, dtype=bool), np.zeros(shape, dtype=int))


SHIPPED_FILE = Path(__file__).with_name("assurance.json")
"""Written by ``python -m harness check --calibrate --keep``."""


DETECTION_SHARE = 0.95
"""The share of slowdowns of a size that must be found for it to be quoted."""


class StoredAssurance(FrozenModel):
    """An assurance with the rule it is of."""

    rule: str
    assurance: Assurance


def rule_fingerprint(rule: Rule) -> str:
    """Changes with any number of the rule, and with the code that applies it."""
    code = "".join(Path(__file__).with_name(f"{name}.py").read_text() for name in ("robust", "screen", "paired_test"))
    return hashlib.sha256(f"{rule.model_dump_json()}{code}".encode()).hexdigest()[:12]


def assurance_of(measured: Sequence[Calibration], command: str) -> Assurance:
    """Over all that was measured on made-up histories; a slowdown counts as found where it is in each of them."""
    alarms = proportion(sum(one.false_alarms.count for one in measured), sum(one.false_alarms.of for one in measured))
    least: dict[tuple[int, float], float] = {}
    for power in (power for one in measured for power in one.powers):
        which = (power.nights_more, power.slowdown_pct)
        least[which] = min(power.found.value, least.get(which, 1.0))
    found: dict[str, float] = {}
    for (more, size), value in sorted(least.items(), reverse=True):
        if value >= DETECTION_SHARE:
            found[str(more + 1)] = round(size, 3)
    return Assurance(
        checks=alarms.of,
        false_alarms=alarms.count,
        false_alarm_rate=alarms.value,
        false_alarm_high=alarms.high,
        source=f"{' and '.join(one.source for one in measured)}; `{command}`",
        found_pct=found,
    )


def shipped_assurance(rule: Rule = RULE) -> Assurance | None:
    """``None`` where the rule was changed and not measured since."""
    try:
        kept = StoredAssurance.model_validate_json(SHIPPED_FILE.read_text())
    except (OSError, ValidationError):
        return None
    return kept.assurance if kept.rule == rule_fingerprint(rule) else None
