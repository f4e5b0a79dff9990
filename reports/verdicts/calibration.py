"""What the rule does, measured: on histories without a change how often it is wrong, on slowed ones what it finds.

Suites of some series are screened as a check would screen them, and suspects confirmed by drawn pairs. The histories
are made up (:mod:`reports.verdicts.generator`), or a store's own: nights drawn with replacement, and in each its
trials, so that neither holds a change; pairs are differences of two trials of one night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.value import Value
from reports.verdicts.confirm import confirm_all
from reports.verdicts.generator import Histories, World, histories
from reports.verdicts.robust import Array, median
from reports.verdicts.rule import Rule
from reports.verdicts.screen import Nights, screen
from reports.verdicts.values import Series

NIGHTS = 30
LATER = (0, 1, 3)
"""A slowdown is looked for on the night it lands, and within so many more."""
SUITE = 50
PLENTY = 10
"""Nights that a series needs before it is resampled."""


class Share(Value):
    """How many of how many, with the 95 % interval of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of


class Power(Value):
    """Slowdowns of one size that were found in time."""

    slowdown_pct: float
    nights_more: int
    """Within so many nights after the one on which it landed."""
    found: Share


class Calibration(Value):
    """What the rule was measured to do on one kind of history."""

    source: str
    false_alarms: Share
    improved: Share
    """Unchanged series that were called improved: an alarm to nobody, but as wrong."""
    suspects: Share
    extra_trials: float
    """Trials spent on pairs of unchanged series, over those of their nights."""
    powers: tuple[Power, ...]


@dataclass(frozen=True)
class Unchanged:
    """``trials``: (series, nights, trials) of ln seconds; ``pairs(count, slowdown)``: (series, count)."""

    trials: Array
    pairs: Callable[[int, float], Array]


Maker = Callable[[int, int], Unchanged | None]
"""Number of series, seed → a suite of unchanged series; ``None`` where there is no history."""


def made_up(world: World, series: int, seed: int) -> Unchanged:
    """Histories with one night to judge and as many more as power is asked for."""
    found: Histories = histories(world, series, NIGHTS + 1 + max(LATER), seed)
    return Unchanged(found.trials, found.pairs)


def resampled(own: Sequence[Series], series: int, seed: int) -> Unchanged | None:
    """From a store's own series; ``None`` where none has :data:`PLENTY` nights of two trials."""
    rng = np.random.default_rng(seed)
    plenty = [_nights(one) for one in own]
    plenty = [nights for nights in plenty if len(nights) >= PLENTY]
    if not plenty:
        return None
    widest = min(min(len(night) for night in nights) for nights in plenty)
    trials = np.empty((series, NIGHTS + 1 + max(LATER), widest))
    chosen = rng.integers(len(plenty), size=series)
    for row, place in enumerate(chosen):
        nights = plenty[place]
        for column in range(trials.shape[1]):
            trials[row, column] = rng.choice(nights[rng.integers(len(nights))], widest)

    def pairs(count: int, slowdown: float) -> Array:
        found = np.empty((series, count))
        for row, place in enumerate(chosen):
            for column in range(count):
                night = plenty[place][rng.integers(len(plenty[place]))]
                head, base = rng.choice(night, 2, replace=False)
                found[row, column] = head - base
        return found + float(np.log1p(slowdown))

    return Unchanged(trials, pairs)


def _nights(one: Series) -> list[Array]:
    """Good nights with two trials and more, each less the median of its accepted level."""
    there = [night for night in (*one.past, *((one.newest,) if one.newest else ())) if night.good]
    levels = {night.level for night in there}
    middle = {
        level: float(median(np.asarray([np.median(night.logs) for night in there if night.level == level])))
        for level in levels
    }
    return [np.asarray(night.logs) - middle[night.level] for night in there if len(night.logs) > 1]


def calibrate(
    make: Maker, source: str, checks: int, slowdowns: Sequence[float], rule: Rule
) -> Iterator[Calibration | float]:
    """Shares done as they come, between 0 and 1, then the calibration; nothing where there is no history.

    ``slowdowns``: 0.05 is 5 %. Power is measured on a tenth
    of the checks for each.
    """
    suites = max(checks // SUITE, 1)
    powered = max(suites // 10, 1)
    total = suites + powered * len(slowdowns) * len(LATER)
    counts: dict[str, int] = {"alarms": 0, "improved": 0, "suspects": 0, "pairs": 0, "trials": 0}
    found = {(slowdown, more): 0 for slowdown in slowdowns for more in LATER}
    done = 0
    for seed in range(suites):
        suite = make(SUITE, seed)
        if suite is None:
            return
        _count(counts, suite, rule)
        done += 1
        if seed < powered:
            for slowdown in slowdowns:
                for more, caught in _caught(suite, slowdown, rule).items():
                    found[slowdown, more] += caught
                done += len(LATER)
        yield done / total
    of = suites * SUITE
    yield Calibration(
        source=source,
        false_alarms=share(counts["alarms"], of),
        improved=share(counts["improved"], of),
        suspects=share(counts["suspects"], of),
        extra_trials=2 * counts["pairs"] / counts["trials"],
        powers=tuple(
            Power(slowdown_pct=100 * slowdown, nights_more=more, found=share(caught, powered * SUITE))
            for (slowdown, more), caught in found.items()
        ),
    )


def share(count: int, of: int) -> Share:
    """With its interval."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, of - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 0.975)) if count < of else 1.0
    return Share(count=count, of=of, low=low, high=high)


def _count(counts: dict[str, int], suite: Unchanged, rule: Rule) -> None:
    """One check of a suite without a change."""
    trials = suite.trials[:, : NIGHTS + 1]
    screened = screen(_as_nights(trials), rule)
    suspects = screened.slower_z > screened.threshold
    decisions = confirm_all(suite.pairs(rule.looks[-1], 0.0)[suspects], screened.pair_scale[suspects], rule)
    counts["alarms"] += sum(one.answer == "slower" for one in decisions)
    counts["suspects"] += int(suspects.sum())
    counts["pairs"] += sum(one.used for one in decisions)
    counts["improved"] += int((~suspects & (screened.faster_z < -rule.improvement_z)).sum())
    counts["improved"] += sum(one.answer == "faster" for one in decisions)
    counts["trials"] += trials.shape[0] * trials.shape[2]


def _caught(suite: Unchanged, slowdown: float, rule: Rule) -> dict[int, int]:
    """How many of the suite's series are found, by nights after the one on which all of them were slowed."""
    slowed = suite.trials.copy()
    slowed[:, NIGHTS:] += np.log1p(slowdown)
    caught = np.zeros(len(slowed), dtype=bool)
    found = {}
    for more in range(max(LATER) + 1):
        screened = screen(_as_nights(slowed[:, : NIGHTS + 1 + more]), rule)
        suspects = (screened.slower_z > screened.threshold) & ~caught
        decisions = confirm_all(suite.pairs(rule.looks[-1], slowdown)[suspects], screened.pair_scale[suspects], rule)
        caught[np.flatnonzero(suspects)] = [one.answer == "slower" for one in decisions]
        if more in LATER:
            found[more] = int(caught.sum())
    return found


def _as_nights(trials: Array) -> Nights:
    shape = trials.shape[:2]
    return Nights(trials, np.ones(shape, dtype=bool), np.zeros(shape, dtype=int))
