"""What changed between sweeps: sentences for the top of the page, and a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from reports.analysis import changes, formatting
from reports.analysis.comparison import Change, Comparison
from reports.page.elements import Section, Table
from reports.page.palette import SeriesStyle
from reports.page.ratio_figures import ratio_figures

MAX_NAMED = 3


def sections(comparisons: Sequence[Comparison], styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """One section, where the sweeps have cases in common: the ratios over ranks as figures, and tables of all.

    Args:
        comparisons: Of each further sweep with the first.
        styles: That of each curve, by the keys of its cases with the labels of their sweeps.
    """
    shared = [comparison for comparison in comparisons if comparison.changes]
    if shared:
        subtitle = "Ratios with 95 % intervals over trials: a description, not a verdict."
        figures = tuple(
            figure
            for number, comparison in enumerate(shared)
            for figure in ratio_figures(f"change-{number}", comparison, styles)
        )
        yield Section("What changed", subtitle, figures, tuple(map(_table, shared)))


def comparison_sentence(comparison: Comparison) -> str:
    """``B against A: slower in 2 of 12 cells: …``"""
    if not comparison.changes:
        return f"{comparison.other} and {comparison.first} have no case in common; they are shown side by side."
    known = [change for change in comparison.changes if change.direction != "unknown"]
    parts = [
        f"{kind} in {len(clear)} of {formatting.counted(len(comparison.changes), 'cell')} ({_largest_changes(clear)})"
        for kind in ("slower", "faster")
        if (clear := [change for change in known if change.direction == kind])
    ]
    unclear_count = sum(change.direction == "unclear" for change in known)
    if unclear_count:
        parts.append(f"statistically tied in {unclear_count}")
    unknown_count = len(comparison.changes) - len(known)
    if unknown_count:
        parts.append(f"{unknown_count} can't be compared")
    return f"{comparison.other} against {comparison.first}: {'; '.join(parts)}."


def _largest_changes(clear: Sequence[Change]) -> str:
    """The largest changes first."""
    ranked = sorted(clear, key=lambda change: abs(_relative_change(change)), reverse=True)
    named = [f"{change.after.labels.title} {changes.change(change.ratio)}" for change in ranked[:MAX_NAMED]]
    more = len(ranked) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _relative_change(change: Change) -> float:
    """On a scale on which 2× slower and 2× faster are equally large."""
    return math.log(change.ratio.value) if change.ratio else 0.0


def _table(comparison: Comparison) -> Table:
    rows = tuple(
        (
            change.after.labels.workload,
            _backends(comparison, change),
            change.after.labels.rank_count,
            change.after.labels.scaling,
            changes.change(change.ratio),
            change.reason or change.direction,
        )
        for change in comparison.changes
    )
    note = (
        f"Only in {comparison.first}: {formatting.counted(comparison.only_first, 'cell')}; "
        f"only in {comparison.other}: {comparison.only_other}."
    )
    header = (
        "workload",
        "backend",
        "ranks",
        "scaling",
        f"throughput of {comparison.other} against {comparison.first} (95 %)",
        "result",
    )
    return Table(f"{comparison.other} against {comparison.first}", header, rows, note)


def _backends(comparison: Comparison, change: Change) -> str:
    after = change.after.labels.backend
    return f"{after} against {change.before.labels.backend}" if comparison.across else after
