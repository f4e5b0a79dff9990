"""The screen: are the newest nights slower than the nights before? It only suspects; pairs decide.

A night's value is a robust location over its trials. The newest 1, 2, 3 and 5 nights are held against up to fourteen
before them; the scale of night-to-night changes is each series' own, drawn toward the suite's. Everything is done for
all series of a metric at once, in arrays of shape (series, nights) whose last column is the newest night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.regression.robust import Array, location, median, scaled_mad, shrink_scales
from reports.regression.rule import Rule
from reports.regression.values import MetricSeries, NightTrials

PRIOR_TRIAL_SCALE = 0.02
PRIOR_NIGHT_RATIO = 1.3
"""How much more a night's value differs from night to night than its trials alone would have it."""
PRIOR_SPREAD = 0.35
"""Of the logarithms of scales between series of one suite."""
EXCLUDED_NEWEST_NIGHTS = 5
"""The newest nights may hold a slowdown already: they don't say how often the screen suspects by chance."""
THRESHOLD_NIGHTS = 12
MIN_SCALE = 1e-5
"""A scale of nothing but equal values would suspect anything."""
MIN_DRIFT_NIGHTS = 12
"""Fewer say nothing about a drift."""
MIN_DEGREES_OF_FREEDOM = 20
"""Degrees of freedom within nights: from fewer the scale of pairs is learnt from the pairs themselves."""
MIN_LOG_ERROR = 0.003
"""Of the logarithm: where a number hardly ever changes, a change of half a per cent is no suspicion yet."""
REFERENCE_VARIANCE_FACTOR = 1.1
"""Variance of a Huber location of a reference, against that of a mean."""


@dataclass(frozen=True)
class SeriesArrays:
    """Series as arrays: ``trials`` (series, nights, trials), the others (series, nights), the newest night last."""

    trials: Array
    good: np.ndarray
    """Nights that say how a series varies: not where a regression was found."""
    level: np.ndarray
    """Accepted level of each night, counted from 0."""

    @property
    def usable(self) -> np.ndarray:
        """Nights that may serve as a reference: good, and of the newest accepted level."""
        return np.asarray(self.good & (self.level == self.level[:, -1:]))


@dataclass(frozen=True)
class ScreenedChange:
    """ln of what a look-back's nights are to their reference, a drift taken off; and its standard error."""

    value: Array
    error: Array


@dataclass(frozen=True)
class ScreenResult:
    """Of each series; shape (series,) throughout."""

    slower_z: Array
    """Largest z of the look-backs; NaN where nights are too few."""
    faster_z: Array
    """Smallest."""
    slower: ScreenedChange
    """In the look-back of the largest z."""
    newest: ScreenedChange
    """Of the newest night alone."""
    pair_scale: Array
    """Standard deviation of ln(head ÷ base) as the nights foretell it; NaN where they hold too few trials."""
    threshold: float


def arrays_of(series: Sequence[MetricSeries], keep: int) -> SeriesArrays:
    """The newest ``keep`` nights of each series, right-aligned."""
    rows = [(*one.past[-keep:], *((one.newest,) if one.newest else ())) for one in series]
    max_trials = max((len(night.logs) for row in rows for night in row), default=1)
    nights = keep + 1
    trials = np.full((len(rows), nights, max(max_trials, 1)), np.nan)
    good = np.zeros((len(rows), nights), dtype=bool)
    level = np.zeros((len(rows), nights), dtype=int)
    for place, (row, one) in enumerate(zip(rows, series, strict=True)):
        start = nights - len(row) if one.newest else nights - 1 - len(row)
        for column, night in enumerate(_drop_old_bad_nights(row), start=start):
            if night is None:
                continue
            trials[place, column, : len(night.logs)] = night.logs
            good[place, column] = night.good
            level[place, column] = night.level
        if row:
            level[place, -1] = row[-1].level
    return SeriesArrays(trials, good, level)


def _drop_old_bad_nights(row: Sequence[NightTrials]) -> list[NightTrials | None]:
    """Nights known to be bad count among the newest while they are; older ones say nothing about the level."""
    last_good = max((place for place, night in enumerate(row[:-1]) if night.good), default=-1)
    return [night if night.good or place > last_good else None for place, night in enumerate(row)]


def screen(nights: SeriesArrays, rule: Rule) -> ScreenResult:
    """Shapes: see :class:`SeriesArrays`. A series with fewer than ``rule.least_nights`` nights before gets NaN."""
    trial_scale = trial_scales(nights)
    values = night_values(nights, trial_scale)
    changes = _compare_windows(values, nights, trial_scale, values.shape[1] - 1, rule)
    z = changes.value / changes.error
    largest = np.argmax(np.where(np.isnan(z), -np.inf, z), axis=0)
    return ScreenResult(
        slower_z=np.fmax.reduce(z, axis=0),
        faster_z=np.fmin.reduce(z, axis=0),
        slower=ScreenedChange(
            *(np.take_along_axis(part, largest[None], 0)[0] for part in (changes.value, changes.error))
        ),
        newest=ScreenedChange(changes.value[0], changes.error[0]),
        pair_scale=np.where(_degrees_of_freedom(nights) >= MIN_DEGREES_OF_FREEDOM, np.sqrt(2) * trial_scale, np.nan),
        threshold=_threshold(values, nights, trial_scale, rule),
    )


def trial_scales(nights: SeriesArrays) -> Array:
    """Standard deviation of trials within a night: the median over nights, so that a wild trial spoils one of them."""
    counts = (~np.isnan(nights.trials)).sum(-1)
    freedom = np.maximum(counts - 1, 1)
    mean = np.nansum(nights.trials, -1) / np.maximum(counts, 1)
    squares = np.nansum((nights.trials - mean[..., None]) ** 2, -1) / freedom
    # The median of χ²(ν) ÷ ν is (1 − 2/9ν)³ (Wilson and Hilferty 1931).
    deviations = np.where(counts > 1, np.sqrt(squares / (1 - 2 / (9 * freedom)) ** 3), np.nan)
    informed = (counts > 1).sum(-1) * np.maximum(freedom.max(-1), 1) / 1.4
    found = shrink_scales(median(deviations), informed.astype(float), PRIOR_TRIAL_SCALE, 2 * PRIOR_SPREAD)
    return np.maximum(found, MIN_SCALE)


def _degrees_of_freedom(nights: SeriesArrays) -> Array:
    counts = (~np.isnan(nights.trials)).sum(-1)
    return np.asarray(np.maximum(counts - 1, 0).sum(-1), dtype=float)


def night_values(nights: SeriesArrays, trial_scale: Array) -> Array:
    """A robust location of each night's trials. Shape (series, nights); NaN for nights without a trial."""
    return location(nights.trials, np.repeat(trial_scale[:, None], nights.trials.shape[1], axis=1))


def _compare_windows(
    values: Array, nights: SeriesArrays, trial_scale: Array, newest: int, rule: Rule
) -> ScreenedChange:
    """Every look-back that ends with column ``newest``; shape (windows, series), NaN where nights are too few."""
    trials = np.maximum(median((~np.isnan(nights.trials)).sum(-1).astype(float)), 1.0)
    trial_error = trial_scale / np.sqrt(trials)
    changes = [
        _compare_window(values, nights, trial_error, newest - window + 1, newest, rule) for window in rule.windows
    ]
    return ScreenedChange(np.stack([look.value for look in changes]), np.stack([look.error for look in changes]))


def _compare_window(
    values: Array, nights: SeriesArrays, trial_error: Array, start: int, newest: int, rule: Rule
) -> ScreenedChange:
    """Columns ``start`` to ``newest`` against those before; ``alone``: how much a night differs for its trials."""
    if start < 1:
        absent = np.full(values.shape[0], np.nan)
        return ScreenedChange(absent, absent)
    recent = values[:, start : newest + 1]
    before, count, age = _newest_usable(values[:, :start], nights.usable[:, :start], rule.reference_nights)
    past = np.where(nights.good[:, :start], values[:, :start], np.nan)
    residuals = _center_by_level(past, nights.level[:, :start])[:, -rule.scale_nights :]
    known = (~np.isnan(residuals)).sum(-1).astype(float)
    scale = trial_error * shrink_scales(scaled_mad(residuals) / trial_error, known, PRIOR_NIGHT_RATIO, PRIOR_SPREAD)
    has_enough = (known >= rule.least_nights) & (count > 0) & ~np.isnan(recent).any(-1)
    drift, drift_error = _drift(residuals, scale)
    nights_ahead = age + (newest - start) / 2
    difference = recent.mean(-1) - location(before, scale) - nights_ahead * drift
    nights_apart = 1 / (newest - start + 1) + REFERENCE_VARIANCE_FACTOR / np.maximum(count, 1)
    error = np.maximum(np.sqrt(scale**2 * nights_apart + (nights_ahead * drift_error) ** 2), MIN_LOG_ERROR)
    return ScreenedChange(np.where(has_enough, difference, np.nan), np.where(has_enough, error, np.nan))


def _drift(residuals: Array, scale: Array) -> tuple[Array, Array]:
    """The slope per night that a series has beyond chance, and its standard error.

    Least squares on values that are held to 2.5 scales, each slope drawn toward 0 as far as those of all series
    together are no larger than their errors (empirical Bayes).
    """
    present = ~np.isnan(residuals)
    count = present.sum(-1)
    place = np.arange(residuals.shape[1], dtype=float)
    centre = (place * present).sum(-1) / np.maximum(count, 1)
    offset = np.where(present, place - centre[:, None], 0.0)
    clipped = np.where(present, np.clip(residuals, -2.5 * scale[:, None], 2.5 * scale[:, None]), 0.0)
    squares = np.maximum((offset**2).sum(-1), 1.0)
    slope, error2 = (offset * clipped).sum(-1) / squares, scale**2 / squares
    has_enough = count >= MIN_DRIFT_NIGHTS
    if not has_enough.any():
        return np.zeros_like(slope), np.zeros_like(slope)
    excess = float(np.median((slope**2)[has_enough]) / 0.455 - np.median(error2[has_enough]))
    between = max(excess, 0.0) if has_enough.sum() >= 8 else float(np.median(error2[has_enough]))
    share = np.where(has_enough, between / (between + error2), 0.0)
    return share * slope, np.sqrt(share * error2)


def _newest_usable(values: Array, usable: np.ndarray, limit: int) -> tuple[Array, Array, Array]:
    """The newest ``most`` usable values of each row, the others NaN; how many there are, and how many columns their
    mean lies before the next."""
    present = usable & ~np.isnan(values)
    rank = np.cumsum(present[:, ::-1], axis=1)[:, ::-1]
    chosen = present & (rank <= limit)
    count = chosen.sum(-1).astype(float)
    columns = values.shape[1] - np.arange(values.shape[1])
    return np.where(chosen, values, np.nan), count, (chosen * columns).sum(-1) / np.maximum(count, 1)


def _center_by_level(values: Array, level: np.ndarray) -> Array:
    """Each night's value less the median of its accepted level."""
    centred = values.copy()
    for one in np.unique(level):
        here = np.where(level == one, values, np.nan)
        centred = np.where(level == one, values - median(here)[:, None], centred)
    return centred


def _threshold(values: Array, nights: SeriesArrays, trial_scale: Array, rule: Rule) -> float:
    """The z of a suspicion: higher than usual where this suite's past would have been suspected too often by it.

    Nights with a regression don't count: what was rightly suspected must not raise the limit for itself.
    """
    last = values.shape[1] - 1 - EXCLUDED_NEWEST_NIGHTS
    past = []
    for column in range(max(last - THRESHOLD_NIGHTS + 1, max(rule.windows)), last + 1):
        changes = _compare_windows(values, nights, trial_scale, column, rule)
        clean = nights.good[:, column - max(rule.windows) + 1 : column + 1].all(-1)
        past.append(np.fmax.reduce(changes.value / changes.error, axis=0)[clean])
    past_z = np.concatenate(past) if past else np.empty(0)
    past_z = past_z[~np.isnan(past_z)]
    if len(past_z) < 5 * THRESHOLD_NIGHTS:
        return rule.suspicion_z
    return max(rule.suspicion_z, float(np.quantile(past_z, 1 - rule.suspects)))
