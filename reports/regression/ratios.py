"""A ratio is judged only where what it is relative to is unchanged.

Efficiency and the serial fraction are relative to the cell with the fewest ranks of their curve: 10 ms more in every
step raise the efficiency, because its base fell. Exposed communication is relative to the whole step: it shrinks where
computing becomes slower. Such a change of the ratio says nothing about scaling, and the cell's own time is judged
anyway.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from reports.analysis import formatting
from reports.regression import wording
from reports.regression.subjects import Subject
from reports.regression.values import Metric, MetricSeries, Status, Verdict

SCALING_METRICS: tuple[Metric, ...] = ("efficiency", "serial", "exposed")
"""The ratios."""
SPEED_METRICS: tuple[Metric, ...] = ("throughput", "step")
"""What tells how fast a cell is, the preferred one first."""
CHANGED: tuple[Status, ...] = ("regressed", "improved", "suspect", "inconclusive")
MIN_LOG_SLOWDOWN = 0.005
"""Smallest change of a cell's own time, as ln, with which its scaling can have changed."""


@dataclass(frozen=True)
class Speed:
    """How fast a cell is: its throughput, or its step time where that is missing."""

    ranks: int
    series: MetricSeries
    verdict: Verdict

    def slowdown(self, *, in_pairs: bool) -> float | None:
        """ln(time now ÷ time before): of the pairs where there are some, else of the newest nights."""
        if in_pairs and self.series.pairs:
            return median(self.series.pairs)
        change_pct = self.verdict.change_pct
        if change_pct is None or not math.isfinite(change_pct) or change_pct <= -100:
            return None
        return (-1 if self.series.more_is_better else 1) * math.log1p(change_pct / 100)

    @property
    def title(self) -> str:
        """``1 rank: throughput``"""
        name = wording.METRIC_WORDING[self.verdict.metric].title
        return f"{formatting.ranks(self.ranks)}: {name}"


Speeds = Mapping[str, Speed]
"""By case key."""


def speeds_of(members: Mapping[Subject, tuple[MetricSeries, Verdict]]) -> Speeds:
    """The speed of every cell among judged series."""
    speeds: dict[str, Speed] = {}
    for metric in reversed(SPEED_METRICS):
        for subject, (series, verdict) in members.items():
            if subject.metric == metric:
                speeds[subject.key] = Speed(subject.ranks, series, verdict)
    return speeds


def since_change_of_base(subject: Subject, series: MetricSeries, speeds: Speeds) -> MetricSeries:
    """The series with a new level from the night on which its base became faster, so that older nights do not count."""
    base = speeds.get(subject.base_key or "")
    if base is None or base.verdict.compared_since is None or series.newest is None:
        return series
    names = [night.night for night in base.series.past]
    newer = {*names[names.index(base.verdict.compared_since) :], series.newest.night}
    past = tuple(
        night.model_copy(update={"level": night.level + 1}) if night.night in newer else night for night in series.past
    )
    newest = series.newest.model_copy(update={"level": series.newest.level + 1})
    return series.model_copy(update={"past": past, "newest": newest})


def check_ratio(subject: Subject, verdict: Verdict, speeds: Speeds) -> Verdict:
    """The verdict on a ratio: ``new`` where its base changed, ``pass`` where that moved as much as the cell itself.

    Args:
        subject: The ratio.
        verdict: What its own nights and pairs say.
        speeds: The speeds of all cells, judged in the same way.
    """
    base, own = speeds.get(subject.base_key or ""), speeds.get(subject.key)
    if base is not None and base.verdict.status in CHANGED:
        change = wording.change_text(base.verdict.change_pct, None, None, base.verdict.metric)
        reason = f"not judged: its base ({base.title}) is {base.verdict.status}, {change}"
        unknown = {"change_pct": None, "low_pct": None, "high_pct": None, "pairs_wanted": 0}
        return verdict.model_copy(update={**unknown, "status": "new", "reason": reason})
    if verdict.status not in CHANGED or own is None:
        return verdict
    in_pairs = verdict.pairs_used > 0
    slowdown = own.slowdown(in_pairs=in_pairs)
    base_change = base.slowdown(in_pairs=in_pairs) if base else 0.0
    if slowdown is None or base_change is None:
        return verdict
    gained = verdict.status == "improved"
    if (-slowdown if gained else slowdown) >= max(MIN_LOG_SLOWDOWN, abs(base_change)):
        return verdict
    other = (
        f"its base ({base.title}) by {_percent(base_change)}" if base else "the rest of its step the other way round"
    )
    reason = f"not its own: its time changed by {_percent(slowdown)}, {other}"
    return verdict.model_copy(update={"status": "pass", "pairs_wanted": 0, "reason": f"{reason}; {verdict.reason}"})


def _percent(log_change: float) -> str:
    return wording.change_text(100 * math.expm1(log_change), None, None)
