"""A series that is no plain pass, drawn over its nights: trials, nights, accepted levels, and what pairs said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from reports.page import words as numbers
from reports.page.values import Figure, Series, Table
from reports.verdicts import words
from reports.verdicts.values import POINTS, Metric, NightOfTrials, Verdict
from reports.verdicts.values import Series as Nights

SHOWN_NIGHTS = 30
FEW_NIGHTS = 12
"""More take the whole width of the page."""
PAIRS = "pairs"
DATE = re.compile(r"\d{4}-?(\d\d)-?(\d\d)(?:[-T ](\d\d):?(\d\d)\S*)?")
"""What a sweep's id and an ISO date begin with."""
LARGEST_LOG = 700.0
"""Beyond it e^x is no number any more."""
TRIALS, LEVELS, NEWEST, HEAD = range(4)
"""Styles."""


@dataclass(frozen=True)
class Drawn:
    """One night: where it stands, and the share by which each trial is off the level that was accepted last."""

    at: int
    night: NightOfTrials
    offs: tuple[float, ...]
    newest: bool

    @property
    def level(self) -> float:
        return median(self.offs)


def figure(key: str, series: Nights, verdict: Verdict) -> Figure | None:
    """``None`` where no night has a number. Values are drawn against the accepted level, where 5 % can be seen."""
    nights = _nights(series)
    if not nights:
        return None
    labels = _labels(nights)
    pairs = _pairs(verdict, len(nights))
    what = words.NAMING[series.metric].title
    return Figure(
        key=key,
        title=words.within_curve(verdict),
        x_title="night",
        y_title=f"{what} against the accepted level",
        series=(*_curves(nights), *pairs),
        sentence=_sentence(series, verdict, nights),
        table=_table(series, nights),
        categories=(*labels, PAIRS) if pairs else labels,
        percent=True,
        wide=len(nights) > FEW_NIGHTS,
    )


def _nights(series: Nights) -> tuple[Drawn, ...]:
    """The last ones that have a number, the newest among them."""
    every = [(night, False) for night in series.past] + ([(series.newest, True)] if series.newest else [])
    usable = [(night, _usable(night), newest) for night, newest in every]
    shown = [found for found in usable if found[1]][-SHOWN_NIGHTS:]
    reference = _reference(series, shown[-1][1] if shown else ())
    sign = -1 if series.more_is_better else 1
    return tuple(
        Drawn(at, night, tuple(_off(sign * (log - reference), series.metric) for log in logs), newest)
        for at, (night, logs, newest) in enumerate(shown)
    )  # fmt: skip


def _off(difference: float, metric: Metric) -> float:
    """As a share of the accepted level; of a share in points ÷ 100."""
    return difference if metric in POINTS else math.expm1(min(LARGEST_LOG, difference))


def _usable(night: NightOfTrials) -> tuple[float, ...]:
    return tuple(log for log in night.logs if abs(log) < LARGEST_LOG)


def _reference(series: Nights, otherwise: Sequence[float]) -> float:
    """The log of the level that was accepted last: over good nights; else over all of it; else what is there."""
    last = max((night.level for night in series.past), default=0)
    of_level = [night for night in series.past if night.level == last and _usable(night)]
    good = [night for night in of_level if night.good] or of_level
    return median([median(_usable(night)) for night in good]) if good else median(otherwise or (0.0,))


def _curves(nights: Sequence[Drawn]) -> Iterator[Series]:
    """Trials, the nights' levels with a break where one was accepted, and the night that is judged by them."""
    yield _points("trial", [(one.at, off, not one.night.good) for one in nights for off in one.offs], TRIALS, "markers")
    past = [one for one in nights if not one.newest]
    for level in dict.fromkeys(one.night.level for one in past):
        of_level = [(one.at, one.level, False) for one in past if one.night.level == level]
        changed = f", after accepted change {level}" if level else ""
        yield _points(f"night (median of trials){changed}", of_level, LEVELS, "points")
    newest = [(one.at, one.level, False) for one in nights if one.newest]
    if newest:
        yield _points("newest night (median)", newest, NEWEST, "markers")


def _points(name: str, points: Sequence[tuple[int, float, bool]], style: int, look: str) -> Series:
    unknown = (None,) * len(points)
    return Series(
        name=name,
        x=tuple(float(at) for at, _, _ in points),
        y=tuple(y for _, y, _ in points),
        low=unknown,
        high=unknown,
        style=style,
        hollow=tuple(hollow for _, _, hollow in points),
        look="markers" if look == "markers" else "points",
    )


def _pairs(verdict: Verdict, at: int) -> tuple[Series, ...]:
    change, low, high = verdict.change_pct, verdict.low_pct, verdict.high_pct
    if not verdict.pairs_used or change is None or not math.isfinite(change):
        return ()
    ends = (low, high) if low is not None and high is not None and math.isfinite(low + high) else (None, None)
    below, above = (None if end is None else end / 100 for end in ends)
    name = "pairs: head against base (95 %)"
    return (Series(name, (float(at),), (change / 100,), (below,), (above,), HEAD, (False,), "markers"),)


def _sentence(series: Nights, verdict: Verdict, nights: Sequence[Drawn]) -> str:
    """The verdict with its change, what it rests on, and what hollow points are."""
    change = words.change(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric)
    told = "" if change == "–" else f", {change}"
    if told and (towards := words.direction(verdict)):
        told += f", {towards}"
    after = f", after {verdict.pairs_used} interleaved pairs" if verdict.pairs_used else ""
    parts = [f"{verdict.status.capitalize()}{told}{after}."]
    if verdict.reason:
        parts.append(f"{words.one_line(verdict.reason, 300).rstrip('.')}.")
    every = len(series.past) + (series.newest is not None)
    if every > len(nights):
        parts.append(f"The last {len(nights)} of {every:,} nights.")
    if any(not one.night.good for one in nights):
        parts.append("Hollow trials: of nights that are no reference.")
    return " ".join(parts)


def _table(series: Nights, nights: Sequence[Drawn]) -> Table:
    rows = tuple(
        (words.one_line(one.night.night), str(len(one.offs)), _value(series, _usable(one.night)),
         words.change(100 * one.level, None, None, series.metric), str(one.night.level), _note(one))
        for one in reversed(nights)
    )  # fmt: skip
    header = ("night", "trials", "median", "against the accepted level", "accepted changes", "note")
    return Table(f"{words.NAMING[series.metric].title} by night, the newest first", header, rows)


def _note(one: Drawn) -> str:
    said = ("newest",) if one.newest else ()
    return ", ".join((*said, *(() if one.night.good else ("no reference",)))) or "–"


def _value(series: Nights, logs: Sequence[float]) -> str:
    """In the metric's own unit; throughput may be of samples or of bytes, and has none."""
    if series.metric in POINTS:
        return f"{100 * median(logs):.1f} %"
    value = math.exp(median(logs) * (-1 if series.more_is_better else 1))
    forms = {"memory": f"{numbers.quantity(value, 'B')}", "energy": f"{numbers.number(value)} J"}
    of_metric: dict[Metric, str] = {
        "step": numbers.duration(value), "throughput": numbers.number(value), "efficiency": f"{100 * value:.1f} %",
    }  # fmt: skip
    return of_metric.get(series.metric) or forms[series.metric]


def _labels(nights: Sequence[Drawn]) -> tuple[str, ...]:
    """``11-20`` of a date or a sweep's id, with the time of day where two would be the same; others as they are."""
    names = [words.one_line(one.night.night) for one in nights]
    found = [DATE.fullmatch(name) for name in names]
    days = [f"{one[1]}-{one[2]}" if one else name for one, name in zip(found, names, strict=True)]
    if len(set(days)) == len(days):
        return tuple(days)
    return tuple(f"{day} {one[3]}:{one[4]}" if one and one[3] else day for one, day in zip(found, days, strict=True))
