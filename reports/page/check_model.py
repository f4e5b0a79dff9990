"""From a judgement and the series behind it to a page: the verdict on top, a figure for what is no plain pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.page.check_figures import figure
from reports.page.values import Figure, Page, Section, Table
from reports.verdicts import words
from reports.verdicts.outcome import about, headline, next_steps, title
from reports.verdicts.rows import Row, row_of, rows
from reports.verdicts.values import Judgement, Metric, Series

MOST_FIGURES = 12
LONGEST_TITLE = 120
"""Characters of a name; the table has all of it."""
HEADER = ("status", "curve", "ranks", "what", "change (95 %)", "pairs", "why")

Known = dict[tuple[str, Metric], Series]


def make_check_page(judgement: Judgement, series: Sequence[Series]) -> Page:
    """``series``: those that were judged; one without a verdict isn't shown, a verdict without one has no figure."""
    found = rows(judgement)
    known = {(one.name, one.metric): one for one in series}
    return Page(
        title=f"Nightly check: {title(judgement)}",
        answers=(f"{headline(judgement)}.", f"Judged: {about(judgement)}.", words.assurance(judgement.assurance)),
        warnings=tuple(map(str, next_steps(judgement))),
        sections=(*_table(found, judgement), *_figures(found, known), *_every(judgement)),
    )


def _table(found: Sequence[Row], judgement: Judgement) -> Iterator[Section]:
    _, shared = words.short_names(judgement.verdicts)
    if found:
        note = "Changes are of the value itself, with 95 % intervals. What passed is under “All series”."
        yield Section(
            "Found",
            f"All curves: {shared}" if shared else "",
            tables=(Table("Found", HEADER, tuple(map(_cells, found)), note),),
        )


def _figures(found: Sequence[Row], known: Known) -> Iterator[Section]:
    """A section for each row, as long as there is room for figures."""
    room = MOST_FIGURES
    for number, row in enumerate(found):
        figures = tuple(_of_row(f"r{number}", row, known))[:room]
        room -= len(figures)
        if figures:
            yield Section(
                f"{words.one_line(row.curve, LONGEST_TITLE)} · {row.what}",
                row.why if row.finding else row.status,
                figures,
            )


def _of_row(key: str, row: Row, known: Known) -> Iterator[Figure]:
    for number, verdict in enumerate(row.verdicts):
        nights = known.get((verdict.name, verdict.metric))
        if nights is not None and (made := figure(f"{key}-{number}", nights, verdict)):
            yield made


def _every(judgement: Judgement) -> Iterator[Section]:
    short, _ = words.short_names(judgement.verdicts)
    found = [(_cells(row_of(one, short)), f"{one.nights:,}") for one in judgement.verdicts]
    cells = tuple((*row[:-1], nights, row[-1]) for row, nights in found)
    if cells:
        header = (*HEADER[:-1], "nights before", HEADER[-1])
        yield Section("All series", tables=(Table("All series, the worst first", header, cells),), folded=True)


def _cells(row: Row) -> tuple[str, ...]:
    return (row.status, row.curve, row.ranks, row.what, row.change, row.pairs, row.why or "–")
