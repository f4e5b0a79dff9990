"""The index page over many sweeps: what changed, a table of the sweeps, and the trend of each curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from reports.analysis import formatting
from reports.analysis.comparison import (
    Night,
    NightComparison,
    comparison_with_oldest,
    environment_differences,
    latest_comparison,
)
from reports.analysis.stats import Estimate
from reports.page import trends
from reports.page.elements import Hyperlink, Page, Section, Table
from reports.page.large_sweeps import bounded
from reports.page.palette import backend_styles
from reports.page.trends import Trend, group_of, trend_sections

MAX_OPEN_TRENDS = 2
"""The figures of further workloads are folded."""
MAX_OPEN_SWEEPS = 14
"""Older sweeps are folded."""
LIST_HINT = "`python -m harness sweeps list --limit 0` lists all of them."
SAID_ONCE = ("suite", "commit", "machine", "overhead (95 %)", "note")
"""Columns of the table of sweeps that its note holds where all sweeps have the same value."""
UNREMARKABLE = "–"
DATE_FORMATS = ("%m-%d", "%Y-%m-%d", "%m-%d %H:%M", "%Y-%m-%d %H:%M")


def make_index(nights: Sequence[Night], unfinished: Sequence[str] = (), older: Sequence[Night] = ()) -> Page:
    """The index page.

    Args:
        nights: The sweeps that are compared and drawn: at least one, the oldest first.
        unfinished: Sweeps that were left out.
        older: Further sweeps, which are in the table only; their cells may be missing.
    """
    last = latest_comparison(nights)
    reference = last.after if last else nights[-1]
    first = comparison_with_oldest(nights, reference) if last else None
    every = sorted((*older, *nights), key=lambda night: (night.started_at, night.sweep))
    labels = dict(zip((night.sweep for night in every), short_dates(every), strict=True))
    sweeps = _sweeps_table(every, reference, labels)
    return Page(
        title=f"Trend over {formatting.counted(len(every), 'sweep')}",
        answers=tuple(_answers(nights, last, first, labels)),
        warnings=tuple(_warnings(nights[-1], reference, labels, unfinished)),
        sections=(
            Section("Sweeps", tables=(_slice_rows(sweeps, None, MAX_OPEN_SWEEPS),)),
            *_tables(nights, last, first, labels),
            *_trends(nights, labels, reference, last, len(older)),
            *(bounded(section, LIST_HINT) for section in _older_sweeps(sweeps)),
        ),
    )


def short_dates(nights: Sequence[Night]) -> tuple[str, ...]:
    """``11-20``; longer where two would be equal, and the sweep's id where no date is unique."""
    start_times = [datetime.fromisoformat(night.started_at) for night in nights]
    forms = [[f"{moment:{form}}" for moment in start_times] for form in DATE_FORMATS]
    unique = [Counter(labels) for labels in forms]
    return tuple(
        next(
            (labels[number] for labels, count in zip(forms, unique, strict=True) if count[labels[number]] == 1),
            night.sweep,
        )
        for number, night in enumerate(nights)
    )


def _answers(
    nights: Sequence[Night], last: NightComparison | None, first: NightComparison | None, labels: dict[str, str]
) -> Iterator[str]:
    if last is None or first is None:
        reason = "there is one sweep" if len(nights) == 1 else "no two sweeps share a cell, a machine and versions"
        yield f"No comparison: {reason}."
        return
    yield _comparison_answer("The last two comparable sweeps", last, labels)
    if first.before != last.before:
        yield _comparison_answer("The first and the last", first, labels)
    yield (
        "Ratios of throughput, now ÷ then. They describe and give no verdict: their 95 % intervals come from the "
        "trials of two sweeps, do not include what varies from night to night, and one in twenty misses by chance."
    )


def _comparison_answer(what: str, compared: NightComparison, labels: dict[str, str]) -> str:
    """``The last two comparable sweeps (11-19 → 11-20): of 20 cells 6 slower, 14 inconclusive. Largest change: …``"""
    counts = Counter(trends.clear_direction(change) for change in compared.changes)
    counts_text = ", ".join(f"{counts[name]} {name}" for name in ("slower", "faster", trends.TIED) if counts[name])
    largest = compared.changes[0]
    lead = "Largest change" if largest.clear_direction else "Largest difference"
    return (
        f"{what} ({trends.sweep_span(compared, labels)}): of {_cell_count(len(compared.changes))} {counts_text}. "
        f"{lead}: {largest.cell.labels.title}, {trends.change_text(largest)}."
    )


def _cell_count(count: int) -> str:
    return formatting.counted(count, "cell")


def _warnings(newest: Night, reference: Night, labels: dict[str, str], unfinished: Sequence[str]) -> Iterator[str]:
    bad = [cell for cell in newest.cells if cell.outcome in ("failed", "timeout", "invalid")]
    if bad:
        count = _cell_count(len(bad))
        yield f"Newest sweep ({labels[newest.sweep]}): {count} failed or invalid, see “Failed and skipped”."
    if differ := environment_differences(newest, reference):
        yield (
            f"Newest sweep ({labels[newest.sweep]}): not comparable with {labels[reference.sweep]}: "
            f"{trends.join_first(differ)}."
        )
    if unfinished:
        yield f"Left out as unfinished: {trends.join_first(unfinished, ', ')}; name them to include them."


def _older_sweeps(sweeps: Table) -> Iterator[Section]:
    if len(sweeps.rows) > MAX_OPEN_SWEEPS:
        yield Section("Older sweeps", tables=(_slice_rows(sweeps, MAX_OPEN_SWEEPS, None),), folded=True)


def _trends(
    nights: Sequence[Night], labels: dict[str, str], reference: Night, last: NightComparison | None, older: int
) -> Iterator[Section]:
    left_out = f"{formatting.counted(older, 'older sweep')} not drawn" if older else ""
    styles = backend_styles(cell for night in nights for cell in night.cells)
    groups = dict.fromkeys(group_of(cell) for night in nights for cell in night.measured().values())
    for number, group in enumerate(groups):
        planned = tuple(night for night in nights if any(group_of(cell) == group for cell in night.cells))
        shown = tuple(labels[night.sweep] for night in planned)
        since = trends.sweep_span(last, labels) if last else ""
        changes = last.changes if last else ()
        trend = Trend(f"g{number}", group, planned, shown, reference, styles, since, changes)
        for section in trend_sections(trend):
            subtitle = " · ".join(filter(None, (section.subtitle, left_out)))
            yield replace(section, subtitle=subtitle, folded=section.folded or number >= MAX_OPEN_TRENDS)


def _tables(
    nights: Sequence[Night], last: NightComparison | None, first: NightComparison | None, labels: dict[str, str]
) -> Iterator[Section]:
    if last is not None and first is not None:
        yield Section("Changes", tables=(_changes_table(last, first, labels),))
    failures = _failures_table(nights, labels)
    if failures.rows:
        yield Section("Failed and skipped", tables=(failures,))


def _sweeps_table(nights: Sequence[Night], reference: Night, labels: dict[str, str]) -> Table:
    """One row for each sweep, the newest first, with the reason where it is not comparable with ``reference``."""
    rows = tuple(
        (
            Hyperlink(night.sweep, night.href),
            night.started_at[:16].replace("T", " "),
            night.suite,
            f"{night.commit}, sources {night.sources[:8]}" if night.sources else night.commit,
            night.machine,
            _outcomes(night),
            _overhead(night.own_cost),
            _sweep_note(night, reference, labels[reference.sweep]),
        )
        for night in reversed(nights)
    )
    header = ("report", "began", "suite", "commit", "machine", "cells", "overhead (95 %)", "note")
    note = "Overhead: the share of throughput that step timing and sampling take. Times are as recorded by the sweep."
    return _with_constants_in_note(Table("Reports, the newest first", header, rows, note))


def _with_constants_in_note(table: Table) -> Table:
    """The table of several sweeps without the columns that say the same of each: a year of nights is one machine's."""
    if len(table.rows) == 1:
        return table
    shown = table.without_constant(SAID_ONCE)
    newest = dict(zip(table.header, table.rows[0], strict=True))
    constants = [f"{name} {newest[name]}" for name in table.header if name not in shown.header]
    constants = [constant for constant in constants if constant != f"note {UNREMARKABLE}"]
    return replace(shown, note=f"All sweeps: {'; '.join(constants)}. {table.note}" if constants else table.note)


def _slice_rows(table: Table, start: int | None, stop: int | None) -> Table:
    return replace(table, rows=table.rows[start:stop])


def _changes_table(last: NightComparison, first: NightComparison, labels: dict[str, str]) -> Table:
    """One row for each cell that both of the last two comparable nights measured."""
    comparisons = (last,) if first.before == last.before else (last, first)
    texts = [{change.cell.key: trends.change_text(change) for change in each.changes} for each in comparisons]
    rows = tuple(
        (
            change.cell.labels.title,
            change.cell.labels.throughput,
            *(known.get(change.cell.key, "–") for known in texts),
        )
        for change in last.changes
    )
    header = ("cell", "throughput (95 %)", *(trends.sweep_span(each, labels) for each in comparisons))
    note = "Of geometric means over trials, with Welch's 95 % interval. Statistically tied: the interval includes 1."
    return Table("Throughput now ÷ then", header, rows, note)


def _failures_table(nights: Sequence[Night], labels: dict[str, str]) -> Table:
    """One row for each cell and reason, with the sweeps it happened in, the newest first."""
    sweeps_by_failure: dict[tuple[str, str, str], list[str]] = {}
    for night in reversed(nights):
        for cell in night.cells:
            if cell.outcome != "ok":
                what = (cell.labels.title, cell.outcome, cell.reason or "unknown")
                sweeps_by_failure.setdefault(what, []).append(labels[night.sweep])
    rows = tuple((*what, trends.join_first(seen, ", ")) for what, seen in sweeps_by_failure.items())
    header = ("cell", "outcome", "reason and remedy", "sweeps, the newest first")
    return Table("Cells that failed, were invalid or were skipped", header, rows)


def _outcomes(night: Night) -> str:
    """``14 ok, 2 skipped``"""
    counts = Counter(night.outcomes)
    return (
        ", ".join(
            f"{counts[name]} {name}" for name in ("ok", "failed", "timeout", "invalid", "skipped") if counts[name]
        )
        or "none"
    )


def _overhead(value: Estimate | None) -> str:
    """The overhead of measuring; ``value``: throughput with it ÷ without."""
    return "not measured" if value is None else formatting.overhead(value)


def _sweep_note(night: Night, reference: Night, label: str) -> str:
    differing = environment_differences(night, reference)
    notes = [] if night.finished else ["not finished"]
    if differing:
        notes.append(f"not comparable with {label}: {trends.join_first(differing)}")
    return "; ".join(notes) or UNREMARKABLE
