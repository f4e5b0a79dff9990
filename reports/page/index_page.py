"""From nights to the index over many sweeps: what changed, every sweep, a trend per curve. It draws nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from reports.analysis.comparison import (
    Night,
    NightComparison,
    comparison_with_oldest,
    environment_differences,
    latest_comparison,
)
from reports.page import trends
from reports.page.elements import Page, Section, Table
from reports.page.trends import Trend, group_of, trend_sections

MAX_OPEN_SWEEPS = 14
"""Older ones are folded away."""
DATE_FORMATS = ("%m-%d", "%Y-%m-%d", "%m-%d %H:%M", "%Y-%m-%d %H:%M")


def make_index(nights: Sequence[Night], unfinished: Sequence[str] = ()) -> Page:
    """``nights``: at least one, the oldest first; ``unfinished``: sweeps that were left out for that."""
    last = latest_comparison(nights)
    reference = last.after if last else nights[-1]
    first = comparison_with_oldest(nights, reference) if last else None
    labels = dict(zip((night.sweep for night in nights), short_dates(nights), strict=True))
    sweeps = trends.sweeps_table(nights, reference, labels)
    return Page(
        title=f"Trend over {len(nights)} sweep{'s' * (len(nights) != 1)}",
        answers=tuple(_answers(nights, last, first, labels)),
        warnings=tuple(_warnings(nights[-1], reference, labels, unfinished)),
        sections=(
            Section("Sweeps", tables=(trends.slice_rows(sweeps, None, MAX_OPEN_SWEEPS),)),
            *_older_sweeps(sweeps),
            *_trends(nights, labels, reference, last),
            *_tables(nights, last, first, labels),
        ),
    )


def short_dates(nights: Sequence[Night]) -> tuple[str, ...]:
    """``11-20``; longer where two would be the same, and the sweep's id where nothing else tells them apart."""
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
        reason = (
            "there is one sweep" if len(nights) == 1 else "no two sweeps measured a cell on one machine and versions"
        )
        yield f"What changed can't be told: {reason}."
        return
    yield _comparison_answer("The last two comparable sweeps", last, labels)
    if first.before != last.before:
        yield _comparison_answer("The first and the last", first, labels)
    yield (
        "Ratios of throughput, now ÷ then. They describe and judge nothing: their 95 % intervals come from the trials "
        "of two sweeps, hold nothing of what differs from night to night, and one in twenty misses by chance."
    )


def _comparison_answer(what: str, compared: NightComparison, labels: dict[str, str]) -> str:
    """``The last two comparable sweeps (11-19 → 11-20): of 20 cells 6 slower, 14 can't be told. Changed most: …``"""
    counts = Counter(trends.clear_direction(change) for change in compared.changes)
    counts_text = ", ".join(
        f"{counts[name]} {name}" for name in ("slower", "faster", trends.INCONCLUSIVE) if counts[name]
    )
    largest = compared.changes[0]
    lead = "Changed most" if largest.clear_direction else "The largest difference"
    return (
        f"{what} ({trends.sweep_span(compared, labels)}): of {_cell_count(len(compared.changes))} {counts_text}. "
        f"{lead}: {largest.cell.labels.title}, {trends.change_text(largest)}."
    )


def _cell_count(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _warnings(newest: Night, reference: Night, labels: dict[str, str], unfinished: Sequence[str]) -> Iterator[str]:
    bad = [cell for cell in newest.cells if cell.outcome in ("failed", "timeout", "invalid")]
    if bad:
        yield f"Newest sweep ({labels[newest.sweep]}): {_cell_count(len(bad))} failed or invalid, see “Not there”."
    if differ := environment_differences(newest, reference):
        yield (
            f"Newest sweep ({labels[newest.sweep]}): can't be compared with {labels[reference.sweep]}: "
            f"{trends.join_first(differ)}."
        )
    if unfinished:
        yield f"Left out, for they have not finished: {trends.join_first(unfinished, ', ')}; name them to include them."


def _older_sweeps(sweeps: Table) -> Iterator[Section]:
    if len(sweeps.rows) > MAX_OPEN_SWEEPS:
        yield Section("Older sweeps", tables=(trends.slice_rows(sweeps, MAX_OPEN_SWEEPS, None),), folded=True)


def _trends(
    nights: Sequence[Night], labels: dict[str, str], reference: Night, last: NightComparison | None
) -> Iterator[Section]:
    titles = dict.fromkeys(cell.labels.backend for night in nights for cell in night.cells)
    styles = {name: number for number, name in enumerate(titles)}
    groups = dict.fromkeys(group_of(cell) for night in nights for cell in night.measured().values())
    for number, group in enumerate(groups):
        planned = tuple(night for night in nights if any(group_of(cell) == group for cell in night.cells))
        shown = tuple(labels[night.sweep] for night in planned)
        since = trends.sweep_span(last, labels) if last else ""
        changes = last.changes if last else ()
        yield from trend_sections(Trend(f"g{number}", group, planned, shown, reference, styles, since, changes))


def _tables(
    nights: Sequence[Night], last: NightComparison | None, first: NightComparison | None, labels: dict[str, str]
) -> Iterator[Section]:
    if last is not None and first is not None:
        yield Section("Changes", tables=(trends.changes_table(last, first, labels),))
    troubles = trends.failures_table(nights, labels)
    if troubles.rows:
        yield Section("Not there", tables=(troubles,))
