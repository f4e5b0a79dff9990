"""The page of a nightly check: the verdict, and a figure over nights for each series that is not a plain pass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.core.text import one_line
from reports.analysis import formatting as numbers
from reports.page.elements import Figure, Mark, Page, Section, Series, Table
from reports.page.palette import NIGHT_COLOURS, SeriesStyle, meaning_style, neutral_style
from reports.page.series import interval_series, point_series
from reports.regression import wording
from reports.regression.rows import VerdictRow, row_of, rows
from reports.regression.summary import headline, next_steps, subtitle, title
from reports.regression.values import SHARE_METRICS, Judgement, Metric, MetricSeries, NightTrials, Verdict
from reports.regression.values import MetricSeries as Nights

MAX_NIGHTS = 30
MAX_NARROW_NIGHTS = 12
"""A figure of more nights takes the whole width of the page."""
PAIRS_CATEGORY = "pairs"
DATE_PATTERN = re.compile(r"\d{4}-?(\d\d)-?(\d\d)(?:[-T ](\d\d):?(\d\d)\S*)?")
"""The beginning of a sweep's id and of an ISO date."""
MAX_LOG = 700.0
"""e^x overflows beyond it."""
TRIAL_STYLE = neutral_style()
LEVEL_STYLE, NEWEST_STYLE, HEAD_STYLE = (meaning_style(NIGHT_COLOURS, name) for name in NIGHT_COLOURS)


@dataclass(frozen=True)
class NightPoint:
    """One night at a position, and the relative change of each trial against the last accepted level."""

    at: int
    night: NightTrials
    relative_changes: tuple[float, ...]
    newest: bool

    @property
    def level(self) -> float:
        """The median over the trials."""
        return median(self.relative_changes)


def night_figure(key: str, series: Nights, verdict: Verdict) -> Figure | None:
    """The figure of one series over its nights, relative to the accepted level, where a change of 5 % is visible.

    Args:
        key: of the figure, unique on its page.
        series: the nights.
        verdict: on the series.

    Returns:
        The figure, or ``None`` where no night has a number.
    """
    nights = _nights(series)
    if not nights:
        return None
    labels = _night_labels(nights)
    pairs = _pair_series(verdict, len(nights))
    what = wording.METRIC_WORDING[series.metric].title
    return Figure(
        key=key,
        title=wording.label_within_curve(verdict),
        x_title="night",
        y_title=f"{what} against the accepted level",
        series=(*_night_series(nights), *pairs),
        caption=_caption(series, verdict, nights),
        table=_night_table(series, nights),
        categories=(*labels, PAIRS_CATEGORY) if pairs else labels,
        percent=True,
        wide=len(nights) > MAX_NARROW_NIGHTS,
    )


def _nights(series: Nights) -> tuple[NightPoint, ...]:
    """The last nights that have a number, with the newest."""
    total = [(night, False) for night in series.past] + ([(series.newest, True)] if series.newest else [])
    usable = [(night, _usable_logs(night), newest) for night, newest in total]
    shown = [entry for entry in usable if entry[1]][-MAX_NIGHTS:]
    reference = _reference_log(series, shown[-1][1] if shown else ())
    sign = -1 if series.more_is_better else 1
    return tuple(
        NightPoint(at, night, tuple(_relative_change(sign * (log - reference), series.metric) for log in logs), newest)
        for at, (night, logs, newest) in enumerate(shown)
    )


def _relative_change(difference: float, metric: Metric) -> float:
    """Relative to the accepted level; for a metric that is a share, the difference."""
    return difference if metric in SHARE_METRICS else math.expm1(min(MAX_LOG, difference))


def _usable_logs(night: NightTrials) -> tuple[float, ...]:
    return tuple(log for log in night.logs if abs(log) < MAX_LOG)


def _reference_log(series: Nights, otherwise: Sequence[float]) -> float:
    """The log of the last accepted level: of its good nights, else of all its nights, else of ``otherwise``."""
    last = max((night.level for night in series.past), default=0)
    of_level = [night for night in series.past if night.level == last and _usable_logs(night)]
    good = [night for night in of_level if night.good] or of_level
    return median([median(_usable_logs(night)) for night in good]) if good else median(otherwise or (0.0,))


def _night_series(nights: Sequence[NightPoint]) -> Iterator[Series]:
    """The trials, the nights' levels with a break at each accepted change, and the newest night."""
    trials = [(point, change) for point in nights for change in point.relative_changes]
    yield point_series(
        "trial",
        [point.at for point, _ in trials],
        [change for _, change in trials],
        TRIAL_STYLE,
        "markers",
        [not point.night.good for point, _ in trials],
    )
    past = [night_point for night_point in nights if not night_point.newest]
    for level in dict.fromkeys(night_point.night.level for night_point in past):
        of_level = [point for point in past if point.night.level == level]
        changed = f", after accepted change {level}" if level else ""
        yield _median_series(f"night (median of trials){changed}", of_level, LEVEL_STYLE, "points")
    newest = [point for point in nights if point.newest]
    if newest:
        yield _median_series("newest night (median)", newest, NEWEST_STYLE, "markers")


def _median_series(name: str, nights: Sequence[NightPoint], style: SeriesStyle, mark: Mark) -> Series:
    return point_series(name, [point.at for point in nights], [point.level for point in nights], style, mark)


def _pair_series(verdict: Verdict, at: int) -> tuple[Series, ...]:
    change, low, high = verdict.change_pct, verdict.low_pct, verdict.high_pct
    if not verdict.pairs_used or change is None or not math.isfinite(change):
        return ()
    ends = (low, high) if low is not None and high is not None and math.isfinite(low + high) else (None, None)
    below, above = (None if end is None else end / 100 for end in ends)
    name = "pairs: head against base (95 %)"
    return (interval_series(name, [(float(at), change / 100, below, above)], HEAD_STYLE, "markers"),)


def _caption(series: Nights, verdict: Verdict, nights: Sequence[NightPoint]) -> str:
    """The verdict with its change, its reason, and the meaning of hollow points."""
    change = wording.change_text(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric)
    change_text = "" if change == "–" else f", {change}"
    if change_text and (towards := wording.direction(verdict)):
        change_text += f", {towards}"
    pairs_text = f", after {verdict.pairs_used} interleaved pairs" if verdict.pairs_used else ""
    parts = [f"{verdict.status.capitalize()}{change_text}{pairs_text}."]
    if verdict.reason:
        parts.append(f"{one_line(verdict.reason, 300).rstrip('.')}.")
    total = len(series.past) + (series.newest is not None)
    if total > len(nights):
        parts.append(f"The last {len(nights)} of {total:,} nights.")
    if any(not night_point.night.good for night_point in nights):
        parts.append("Hollow trials are of nights that are not used as a reference.")
    return " ".join(parts)


def _night_table(series: Nights, nights: Sequence[NightPoint]) -> Table:
    rows = tuple(
        (
            one_line(night_point.night.night),
            str(len(night_point.relative_changes)),
            _metric_value(series, _usable_logs(night_point.night)),
            wording.change_text(100 * night_point.level, None, None, series.metric),
            str(night_point.night.level),
            _night_note(night_point),
        )
        for night_point in reversed(nights)
    )
    header = ("night", "trials", "median", "against the accepted level", "accepted changes", "note")
    return Table(f"{wording.METRIC_WORDING[series.metric].title} by night, the newest first", header, rows)


def _night_note(night_point: NightPoint) -> str:
    notes = ("newest",) if night_point.newest else ()
    return ", ".join((*notes, *(() if night_point.night.good else ("not a reference",)))) or "–"


def _metric_value(series: Nights, logs: Sequence[float]) -> str:
    """In the unit of the metric; throughput, of samples or of bytes, has none."""
    if series.metric in SHARE_METRICS:
        return numbers.share(median(logs), 1)
    value = math.exp(median(logs) * (-1 if series.more_is_better else 1))
    forms = {"memory": numbers.quantity(value, "B"), "energy": numbers.quantity(value, "J")}
    of_metric: dict[Metric, str] = {
        "step": numbers.duration(value),
        "throughput": numbers.number(value),
        "efficiency": numbers.share(value, 1),
    }
    return of_metric.get(series.metric) or forms[series.metric]


def _night_labels(nights: Sequence[NightPoint]) -> tuple[str, ...]:
    """``11-20`` for a date or a sweep's id, with the time of day where two would be equal; other names unchanged."""
    names = [one_line(night_point.night.night) for night_point in nights]
    matches = [DATE_PATTERN.fullmatch(name) for name in names]
    days = [
        f"{night_point[1]}-{night_point[2]}" if night_point else name
        for night_point, name in zip(matches, names, strict=True)
    ]
    if len(set(days)) == len(days):
        return tuple(days)
    return tuple(
        f"{day} {night_point[3]}:{night_point[4]}" if night_point and night_point[3] else day
        for night_point, day in zip(matches, days, strict=True)
    )


MAX_FIGURES = 12
MAX_OPEN_ROWS = 3
"""Figures of further rows, which are less grave, are folded."""
MAX_TITLE_CHARS = 120
"""Of a name; the table has the whole name."""
HEADER = ("status", "curve", "ranks", "what", "change (95 %)", "pairs", "why")

SeriesByKey = dict[tuple[str, Metric], MetricSeries]


def make_check_page(judgement: Judgement, series: Sequence[MetricSeries]) -> Page:
    """The page of a judgement; ``series``: the judged series, for the figures of their verdicts."""
    verdict_rows = rows(judgement)
    series_by_key = {(metric_series.name, metric_series.metric): metric_series for metric_series in series}
    return Page(
        title=f"Nightly check: {title(judgement)}",
        answers=(
            f"{headline(judgement)}.",
            f"Judged: {subtitle(judgement)}.",
            wording.assurance_text(judgement.assurance),
        ),
        warnings=tuple(map(str, next_steps(judgement))),
        sections=(
            *_findings_section(verdict_rows, judgement),
            *_row_sections(verdict_rows, series_by_key),
            *_all_series_section(judgement),
        ),
    )


def _findings_section(verdict_rows: Sequence[VerdictRow], judgement: Judgement) -> Iterator[Section]:
    _, shared = wording.short_names(judgement.verdicts)
    if verdict_rows:
        note = "Changes of the value itself, with 95 % intervals. Series that passed are under “All series”."
        yield Section(
            "Findings",
            f"All curves: {shared}" if shared else "",
            tables=(Table("Findings", HEADER, tuple(map(_row_cells, verdict_rows)), note),),
        )


def _row_sections(verdict_rows: Sequence[VerdictRow], series_by_key: SeriesByKey) -> Iterator[Section]:
    """A section for each row, the worst open, up to :data:`MAX_FIGURES` figures."""
    remaining = MAX_FIGURES
    for number, row in enumerate(verdict_rows):
        figures = tuple(_row_figures(f"r{number}", row, series_by_key))[:remaining]
        remaining -= len(figures)
        if figures:
            yield Section(
                f"{one_line(row.curve, MAX_TITLE_CHARS)} · {row.what}",
                row.why if row.finding else row.status,
                figures,
                folded=number >= MAX_OPEN_ROWS,
            )


def _row_figures(key: str, row: VerdictRow, series_by_key: SeriesByKey) -> Iterator[Figure]:
    for number, verdict in enumerate(row.verdicts):
        nights = series_by_key.get((verdict.name, verdict.metric))
        if nights is not None and (made := night_figure(f"{key}-{number}", nights, verdict)):
            yield made


def _all_series_section(judgement: Judgement) -> Iterator[Section]:
    short, _ = wording.short_names(judgement.verdicts)
    numbered = [(_row_cells(row_of(verdict, short)), f"{verdict.nights:,}") for verdict in judgement.verdicts]
    cells = tuple((*row[:-1], nights, row[-1]) for row, nights in numbered)
    if cells:
        header = (*HEADER[:-1], "nights before", HEADER[-1])
        yield Section("All series", tables=(Table("All series, the worst first", header, cells),), folded=True)


def _row_cells(row: VerdictRow) -> tuple[str, ...]:
    return (row.status, row.curve, row.ranks, row.what, row.change, row.pairs, row.why or "–")
