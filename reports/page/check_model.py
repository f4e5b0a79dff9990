"""From a judgement and the series behind it to a page: the verdict on top, a figure for what is no plain pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.page.check_figures import night_figure
from reports.page.values import Figure, Page, Section, Table
from reports.verdicts import words
from reports.verdicts.outcome import headline, next_steps, subtitle, title
from reports.verdicts.rows import VerdictRow, row_of, rows
from reports.verdicts.values import Judgement, Metric, MetricSeries

MAX_FIGURES = 12
MAX_TITLE_CHARS = 120
"""Characters of a name; the table has all of it."""
HEADER = ("status", "curve", "ranks", "what", "change (95 %)", "pairs", "why")

SeriesByKey = dict[tuple[str, Metric], MetricSeries]


def make_check_page(judgement: Judgement, series: Sequence[MetricSeries]) -> Page:
    """``series``: those that were judged; one without a verdict isn't shown, a verdict without one has no figure."""
    found = rows(judgement)
    series_by_key = {(one.name, one.metric): one for one in series}
    return Page(
        title=f"Nightly check: {title(judgement)}",
        answers=(
            f"{headline(judgement)}.",
            f"Judged: {subtitle(judgement)}.",
            words.assurance_text(judgement.assurance),
        ),
        warnings=tuple(map(str, next_steps(judgement))),
        sections=(
            *_findings_section(found, judgement),
            *_row_sections(found, series_by_key),
            *_all_series_section(judgement),
        ),
    )


def _findings_section(found: Sequence[VerdictRow], judgement: Judgement) -> Iterator[Section]:
    _, shared = words.short_names(judgement.verdicts)
    if found:
        note = "Changes are of the value itself, with 95 % intervals. What passed is under “All series”."
        yield Section(
            "Found",
            f"All curves: {shared}" if shared else "",
            tables=(Table("Found", HEADER, tuple(map(_row_cells, found)), note),),
        )


def _row_sections(found: Sequence[VerdictRow], series_by_key: SeriesByKey) -> Iterator[Section]:
    """A section for each row, as long as there is room for figures."""
    remaining = MAX_FIGURES
    for number, row in enumerate(found):
        figures = tuple(_row_figures(f"r{number}", row, series_by_key))[:remaining]
        remaining -= len(figures)
        if figures:
            yield Section(
                f"{words.one_line(row.curve, MAX_TITLE_CHARS)} · {row.what}",
                row.why if row.finding else row.status,
                figures,
            )


def _row_figures(key: str, row: VerdictRow, series_by_key: SeriesByKey) -> Iterator[Figure]:
    for number, verdict in enumerate(row.verdicts):
        nights = series_by_key.get((verdict.name, verdict.metric))
        if nights is not None and (made := night_figure(f"{key}-{number}", nights, verdict)):
            yield made


def _all_series_section(judgement: Judgement) -> Iterator[Section]:
    short, _ = words.short_names(judgement.verdicts)
    found = [(_row_cells(row_of(one, short)), f"{one.nights:,}") for one in judgement.verdicts]
    cells = tuple((*row[:-1], nights, row[-1]) for row, nights in found)
    if cells:
        header = (*HEADER[:-1], "nights before", HEADER[-1])
        yield Section("All series", tables=(Table("All series, the worst first", header, cells),), folded=True)


def _row_cells(row: VerdictRow) -> tuple[str, ...]:
    return (row.status, row.curve, row.ranks, row.what, row.change, row.pairs, row.why or "–")
