"""What changed between sweeps: sentences for the top of the page, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.analysis.comparison import Change, Comparison
from reports.page.elements import Section, Table

MAX_NAMED = 3


def sections(comparisons: Sequence[Comparison]) -> Iterator[Section]:
    """One section, where the sweeps have cases in common."""
    tables = tuple(_table(comparison) for comparison in comparisons if comparison.changes)
    if tables:
        subtitle = "Ratios with 95 % intervals over trials: a description, not a verdict."
        yield Section("What changed", subtitle, tables=tables)


def comparison_sentence(comparison: Comparison) -> str:
    """``B against A: slower in 2 of 12 cells: …``"""
    if not comparison.changes:
        return f"{comparison.other} and {comparison.first} have no case in common; they are shown side by side."
    known = [change for change in comparison.changes if change.direction != "unknown"]
    parts = [
        f"{kind} in {len(changes)} of {len(comparison.changes)} cells ({_largest_changes(changes)})"
        for kind in ("slower", "faster")
        if (changes := [change for change in known if change.direction == kind])
    ]
    unclear_count = sum(change.direction == "unclear" for change in known)
    if unclear_count:
        parts.append(f"statistically tied in {unclear_count}")
    unknown_count = len(comparison.changes) - len(known)
    if unknown_count:
        parts.append(f"{unknown_count} can't be compared")
    return f"{comparison.other} against {comparison.first}: {'; '.join(parts)}."


def _largest_changes(changes: Sequence[Change]) -> str:
    """The largest changes first."""
    ranked = sorted(changes, key=lambda change: abs(_relative_change(change)), reverse=True)
    named = [f"{change.after.labels.title} {_percent(change)}" for change in ranked[:MAX_NAMED]]
    more = len(ranked) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _relative_change(change: Change) -> float:
    return change.ratio.value - 1 if change.ratio else 0.0


def _percent(change: Change) -> str:
    """``−12.1 % (−14.0 to −10.2)``"""
    ratio = change.ratio
    if ratio is None:
        return "–"
    span = ""
    if ratio.low is not None and ratio.high is not None:
        span = f" ({100 * ratio.low - 100:+.1f} to {100 * ratio.high - 100:+.1f})"
    return f"{100 * ratio.value - 100:+.1f} %{span}"


def _table(comparison: Comparison) -> Table:
    rows = tuple(
        (
            change.after.labels.workload,
            _backends(comparison, change),
            change.after.labels.rank_count,
            change.after.labels.scaling,
            _percent(change),
            change.reason or change.direction,
        )
        for change in comparison.changes
    )
    note = (
        f"Only in {comparison.first}: {comparison.only_first} cells; "
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
