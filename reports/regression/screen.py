"""The screen: are the newest nights slower than the nights before? It raises suspicions; pairs confirm them.

The value of a night is a robust location over its trials. The newest 1, 2, 3 and 5 nights are compared with up to
fourteen nights before them: with those since the last improvement, where there was one. A change of several nights
counts only where the newest night shows it too. The scale of night-to-night changes is estimated for each series and
shrunk toward that of the suite. All series of one metric are processed at once, in arrays of shape (series, nights)
with the newest night in the last column.
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
"""Night-to-night standard deviation of a series, relative to the standard error of one night's value."""
PRIOR_SPREAD = 0.35
"""Standard deviation of log scales between the series of one suite."""
EXCLUDED_NEWEST_NIGHTS = 5
"""Nights left out of the threshold: they may contain the slowdown that the threshold is for."""
THRESHOLD_NIGHTS = 12
MIN_SCALE = 1e-5
"""Lower bound of a scale: with identical values any difference would be significant."""
MIN_DRIFT_NIGHTS = 12
"""Nights needed to estimate a drift."""
MIN_DEGREES_OF_FREEDOM = 20
"""Degrees of freedom within nights below which the scale of pairs is estimated from the pairs themselves."""
MIN_LOG_ERROR = 0.003
"""Lower bound of the standard error of a log change: 0.5 % is not suspicious, however stable the series."""
REFERENCE_VARIANCE_FACTOR = 1.1
"""Variance of the Huber location of a reference, relative to that of a mean."""
MEDIAN_VARIANCE_FACTOR = 1.57
"""Variance of a median, relative to that of a mean: π ÷ 2."""
NEWEST_SHARE = 0.5
"""Share of a change that a night must show by itself to be counted to it."""
MIN_LEVEL_NIGHTS = 2
"""Nights that are a level of their own."""


@dataclass(frozen=True)
class SeriesArrays:
    """Series as arrays: ``trials`` (series, nights, trials), the others (series, nights); the newest night is last."""

    trials: Array
    good: np.ndarray
    """Nights without a known regression; they determine how much a series varies."""
    level: np.ndarray
    """Number of accepted changes before each night."""

    @property
    def usable(self) -> np.ndarray:
        """Nights that may serve as reference: good, and at the newest accepted level."""
        return np.asarray(self.good & (self.level == self.level[:, -1:]))


@dataclass(frozen=True)
class ScreenedChange:
    """ln(newest nights ÷ reference) of one window, corrected for drift, with its standard error."""

    value: Array
    error: Array
    since: np.ndarray
    """First column of the reference, where that begins with an improvement; else 0."""

    @property
    def z(self) -> Array:
        """The change in standard errors."""
        return np.asarray(self.value / self.error)

    def pick(self, windows: np.ndarray) -> ScreenedChange:
        """Of changes of shape (windows, series), that of one window of each series."""
        return ScreenedChange(
            *(np.take_along_axis(part, windows[None], 0)[0] for part in (self.value, self.error, self.since))
        )


@dataclass(frozen=True)
class ScreenResult:
    """Result of the screen by series; arrays have shape (series,)."""

    slower_z: Array
    """Largest z over the windows; NaN where there are too few nights."""
    faster_z: Array
    """Smallest z over the windows."""
    slower: ScreenedChange
    """Change in the window of the largest z."""
    faster: ScreenedChange
    """Change in the window of the smallest z."""
    newest: ScreenedChange
    """Change of the newest night alone."""
    pair_scale: Array
    """Expected standard deviation of ln(head ÷ base), from trials within nights; NaN where there are too few."""
    threshold: float
    """The z above which a series is suspect."""


def arrays_of(series: Sequence[MetricSeries], keep: int) -> SeriesArrays:
    """The newest night and up to ``keep`` nights before it of each series, right-aligned; missing values are NaN."""
    rows = [(*item.past[-keep:], *((item.newest,) if item.newest else ())) for item in series]
    max_trials = max((len(night.logs) for row in rows for night in row), default=1)
    nights = keep + 1
    trials = np.full((len(rows), nights, max(max_trials, 1)), np.nan)
    good = np.zeros((len(rows), nights), dtype=bool)
    level = np.zeros((len(rows), nights), dtype=int)
    for index, (row, item) in enumerate(zip(rows, series, strict=True)):
        start = nights - len(row) if item.newest else nights - 1 - len(row)
        for column, night in enumerate(_drop_old_bad_nights(row), start=start):
            if night is None:
                continue
            trials[index, column, : len(night.logs)] = night.logs
            good[index, column] = night.good
            level[index, column] = night.level
        if row:
            level[index, -1] = row[-1].level
    return SeriesArrays(trials, good, level)


def night_at(series: MetricSeries, column: int, keep: int) -> str:
    """The night in a column of :func:`arrays_of`, which got the same ``keep``."""
    past = series.past[-keep:]
    row: tuple[NightTrials, ...] = (*past, series.newest) if series.newest else past
    return str(row[column - keep + len(past)].night)


def _drop_old_bad_nights(row: Sequence[NightTrials]) -> list[NightTrials | None]:
    """Replace bad nights that lie before the last good one by ``None``: they are not at the current level."""
    last_good = max((index for index, night in enumerate(row[:-1]) if night.good), default=-1)
    return [night if night.good or index > last_good else None for index, night in enumerate(row)]


def screen(nights: SeriesArrays, rule: Rule, threshold: float | None = None) -> ScreenResult:
    """Compare the newest nights of each series with the nights before; NaN below ``rule.least_nights`` nights.

    ``threshold``: :func:`suspicion_threshold` of these nights, where it is known.
    """
    trial_scale = trial_scales(nights)
    values = night_values(nights, trial_scale)
    changes = _compare_windows(values, nights, trial_scale, values.shape[1] - 1, rule)
    z = changes.z
    return ScreenResult(
        slower_z=np.fmax.reduce(z, axis=0),
        faster_z=np.fmin.reduce(z, axis=0),
        slower=changes.pick(np.argmax(np.where(np.isnan(z), -np.inf, z), axis=0)),
        faster=changes.pick(np.argmin(np.where(np.isnan(z), np.inf, z), axis=0)),
        newest=changes.pick(np.zeros(z.shape[1], dtype=int)),
        pair_scale=np.where(_degrees_of_freedom(nights) >= MIN_DEGREES_OF_FREEDOM, np.sqrt(2) * trial_scale, np.nan),
        threshold=suspicion_threshold(nights, rule) if threshold is None else threshold,
    )


def trial_scales(nights: SeriesArrays) -> Array:
    """Standard deviation of trials within a night, shape (series,): the median over nights, robust to outliers."""
    counts = (~np.isnan(nights.trials)).sum(-1)
    freedom = np.maximum(counts - 1, 1)
    mean = np.nansum(nights.trials, -1) / np.maximum(counts, 1)
    squares = np.nansum((nights.trials - mean[..., None]) ** 2, -1) / freedom
    # The median of χ²(ν) ÷ ν is (1 − 2/9ν)³ (Wilson and Hilferty 1931).
    deviations = np.where(counts > 1, np.sqrt(squares / (1 - 2 / (9 * freedom)) ** 3), np.nan)
    informed = (counts > 1).sum(-1) * np.maximum(freedom.max(-1), 1) / 1.4
    shrunken = shrink_scales(median(deviations), informed.astype(float), PRIOR_TRIAL_SCALE, 2 * PRIOR_SPREAD)
    return np.maximum(shrunken, MIN_SCALE)


def _degrees_of_freedom(nights: SeriesArrays) -> Array:
    counts = (~np.isnan(nights.trials)).sum(-1)
    return np.asarray(np.maximum(counts - 1, 0).sum(-1), dtype=float)


def night_values(nights: SeriesArrays, trial_scale: Array) -> Array:
    """Robust location of each night's trials, shape (series, nights); NaN for nights without a trial."""
    return location(nights.trials, np.repeat(trial_scale[:, None], nights.trials.shape[1], axis=1))


def _compare_windows(
    values: Array, nights: SeriesArrays, trial_scale: Array, newest: int, rule: Rule
) -> ScreenedChange:
    """Compare every window that ends at column ``newest``; shape (windows, series), NaN where nights are too few."""
    trials = np.maximum(median((~np.isnan(nights.trials)).sum(-1).astype(float)), 1.0)
    trial_error = trial_scale / np.sqrt(trials)
    changes = [
        _compare_window(values, nights, trial_error, newest - window + 1, newest, rule) for window in rule.windows
    ]
    return ScreenedChange(
        np.stack([change.value for change in changes]),
        np.stack([change.error for change in changes]),
        np.stack([change.since for change in changes]),
    )


def _compare_window(
    values: Array, nights: SeriesArrays, trial_error: Array, start: int, newest: int, rule: Rule
) -> ScreenedChange:
    """Compare columns ``start`` to ``newest`` with those before.

    ``trial_error``: standard error of one night's value due to its trials, shape (series,).
    """
    if start < 1:
        absent = np.full(values.shape[0], np.nan)
        return ScreenedChange(absent, absent, np.zeros(values.shape[0], dtype=int))
    recent, before = values[:, start : newest + 1], values[:, :start]
    level = nights.level[:, :start]
    past, scale, known = _noise(before, nights.good[:, :start], level, trial_error, rule)
    since = _last_improvement(np.where(nights.usable[:, :start], before, np.nan), scale, rule)
    level = level + ((np.arange(start) >= since[:, None]) & (since[:, None] > 0))
    if since.any():
        past, scale, known = _noise(before, nights.good[:, :start], level, trial_error, rule)
    at_level = nights.usable[:, :start] & (level == level.max(-1, keepdims=True))
    reference, count, age = _newest_usable(before, at_level, rule.reference_nights)
    has_enough = (known >= rule.least_nights) & (count > 0) & ~np.isnan(recent).any(-1)
    drift, drift_error = _drift(past, scale)
    nights_ahead = age + (newest - start) / 2
    expected = location(reference, scale) + nights_ahead * drift
    difference = location(recent, scale) - expected
    # What only the earlier of these nights show is over: the newest one shows less than half of it.
    shown = np.sign(difference) * (recent[:, -1] - expected)
    difference = np.where(shown < NEWEST_SHARE * np.abs(difference), 0.0, difference)
    nights_apart = 1 / (newest - start + 1) + REFERENCE_VARIANCE_FACTOR / np.maximum(count, 1)
    error = np.maximum(np.sqrt(scale**2 * nights_apart + (nights_ahead * drift_error) ** 2), MIN_LOG_ERROR)
    return ScreenedChange(np.where(has_enough, difference, np.nan), np.where(has_enough, error, np.nan), since)


def _noise(
    values: Array, good: np.ndarray, level: np.ndarray, trial_error: Array, rule: Rule
) -> tuple[Array, Array, Array]:
    """Good nights minus the median of their level, the scale of their differences, and their number."""
    residuals = _center_by_level(np.where(good, values, np.nan), level)[:, -rule.scale_nights :]
    known = (~np.isnan(residuals)).sum(-1).astype(float)
    scale = trial_error * shrink_scales(scaled_mad(residuals) / trial_error, known, PRIOR_NIGHT_RATIO, PRIOR_SPREAD)
    return residuals, scale, known


def _last_improvement(values: Array, scale: Array, rule: Rule) -> np.ndarray:
    """The column at which the newest nights became better than those before, shape (series,); 0 where they did not.

    At least two nights are a level of their own, where their location has the z of an improvement against the nights
    before them, and each of them shows at least half of it. Of several such columns that of the clearest improvement.

    Args:
        values: Usable nights before those that are judged, NaN for others; shape (series, nights).
        scale: Night-to-night standard deviation, shape (series,).
        rule: Its ``improvement_z``, ``least_nights`` and ``reference_nights``.
    """
    span = rule.reference_nights
    # Missing nights go to the front, so that the newest ones are the last columns.
    order = np.argsort(~np.isnan(values), axis=1, kind="stable")[:, -2 * span :]
    nights = np.take_along_axis(values, order, 1)[:, None]
    sizes = np.arange(MIN_LEVEL_NIGHTS, min(span, order.shape[1]))
    if not len(sizes):
        return np.zeros(len(values), dtype=int)
    age = np.arange(order.shape[1])[::-1]
    is_newer = age < sizes[:, None]
    newer = np.where(is_newer, nights, np.nan)
    older = np.where(~is_newer & (age < sizes[:, None] + span), nights, np.nan)
    reference, older_count = median(older), (~np.isnan(older)).sum(-1)
    change = median(newer) - reference
    error = scale[:, None] * np.sqrt(1 / sizes + MEDIAN_VARIANCE_FACTOR / np.maximum(older_count, 1))
    z = change / np.maximum(error, MIN_LOG_ERROR)
    all_show_it = (newer.max(-1, initial=-np.inf, where=is_newer) - reference) < NEWEST_SHARE * change
    is_level = (older_count >= rule.least_nights) & (z < -rule.improvement_z) & all_show_it
    clearest = np.argmin(np.where(is_level, z, np.inf), axis=1)
    since = np.take_along_axis(order, order.shape[1] - sizes[clearest][:, None], 1)[:, 0]
    return np.where(is_level.any(-1), since, 0)


def _drift(residuals: Array, scale: Array) -> tuple[Array, Array]:
    """Slope per night of each series and its standard error, shapes (series,).

    Least squares on values clipped at 2.5 scales. Slopes are shrunk toward 0 as far as the slopes of all series are
    explained by their errors (empirical Bayes).
    """
    present = ~np.isnan(residuals)
    count = present.sum(-1)
    column = np.arange(residuals.shape[1], dtype=float)
    centre = (column * present).sum(-1) / np.maximum(count, 1)
    offset = np.where(present, column - centre[:, None], 0.0)
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
    """The newest ``limit`` usable values of each row (others NaN), their count, and their mean distance in columns
    from the column after the last."""
    present = usable & ~np.isnan(values)
    rank = np.cumsum(present[:, ::-1], axis=1)[:, ::-1]
    chosen = present & (rank <= limit)
    count = chosen.sum(-1).astype(float)
    columns = values.shape[1] - np.arange(values.shape[1])
    return np.where(chosen, values, np.nan), count, (chosen * columns).sum(-1) / np.maximum(count, 1)


def _center_by_level(values: Array, level: np.ndarray) -> Array:
    """Subtract from each night's value the median of its accepted level."""
    centred = values.copy()
    for number in np.unique(level):
        at_level = np.where(level == number, values, np.nan)
        centred = np.where(level == number, values - median(at_level)[:, None], centred)
    return centred


def suspicion_threshold(nights: SeriesArrays, rule: Rule) -> float:
    """The z above which a series is suspect: raised where this suite's past would have been suspect too often.

    The newest nights are excluded, and those with a known regression, so that true suspicions do not raise it.
    """
    trial_scale = trial_scales(nights)
    values = night_values(nights, trial_scale)
    last = values.shape[1] - 1 - EXCLUDED_NEWEST_NIGHTS
    past = []
    for column in range(max(last - THRESHOLD_NIGHTS + 1, max(rule.windows)), last + 1):
        changes = _compare_windows(values, nights, trial_scale, column, rule)
        clean = nights.good[:, column - max(rule.windows) + 1 : column + 1].all(-1)
        past.append(np.fmax.reduce(changes.z, axis=0)[clean])
    past_z = np.concatenate(past) if past else np.empty(0)
    past_z = past_z[~np.isnan(past_z)]
    if len(past_z) < 5 * THRESHOLD_NIGHTS:
        return rule.suspicion_z
    return max(rule.suspicion_z, float(np.quantile(past_z, 1 - rule.suspects)))
