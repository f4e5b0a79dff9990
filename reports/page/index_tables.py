"""The tables of an index over many sweeps, from nights to rows of text and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from reports.analysis.stats import Estimate
from reports.nights import Night, NightChange, NightComparison, environment_differences
from reports.page import words
from reports.page.values import Hyperlink, Table

MAX_LISTED = 4
INCONCLUSIVE = "can't be told"


def sweeps_table(nights: Sequence[Night], reference: Night, labels: dict[str, str]) -> Table:
    """The newest first; those that can't be compared with ``reference`` say why."""
    rows = tuple(
        (
            Hyperlink(night.sweep, night.href),
            night.started_at[:16].replace("T", " "),
            night.suite,
            night.commit,
            night.machine,
            _outcomes(night),
            _overhead(night.own_cost),
            _sweep_note(night, reference, labels[reference.sweep]),
        )
        for night in reversed(nights)
    )
    header = ("report", "began", "suite", "commit", "machine", "cells", "own cost (95 %)", "note")
    note = "Own cost: the share of throughput that step timing and sampling take. Times are as the sweep recorded them."
    return Table("Reports, the newest first", header, rows, note)


def slice_rows(table: Table, start: int | None, stop: int | None) -> Table:
    return replace(table, rows=table.rows[start:stop])


def changes_table(last: NightComparison, first: NightComparison, labels: dict[str, str]) -> Table:
    """A row for each cell that both of the last two comparable nights measured."""
    comparisons = (last,) if first.before == last.before else (last, first)
    found = [{one.cell.key: change_text(one) for one in each.changes} for each in comparisons]
    rows = tuple(
        (
            words.case_title(one.cell.case),
            words.estimate(one.cell.throughput),
            *(known.get(one.cell.key, "–") for known in found),
        )
        for one in last.changes
    )
    header = ("cell", "throughput (95 %)", *(sweep_span(each, labels) for each in comparisons))
    note = "Ratios of geometric means over trials, with Welch's 95 % interval. Can't be told: the interval holds 1."
    return Table("Throughput now ÷ then", header, rows, note)


def failures_table(nights: Sequence[Night], labels: dict[str, str]) -> Table:
    """A row for each cell and reason, with the sweeps it happened in: the most recent first."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for night in reversed(nights):
        for cell in night.cells:
            if cell.outcome != "ok":
                what = (words.case_title(cell.case), cell.outcome, cell.reason or "unknown")
                found.setdefault(what, []).append(labels[night.sweep])
    rows = tuple((*what, join_first(seen, ", ")) for what, seen in found.items())
    header = ("cell", "outcome", "reason and remedy", "sweeps, the newest first")
    return Table("Cells that failed, were invalid or were skipped", header, rows)


def sweep_span(comparisons: NightComparison, labels: dict[str, str]) -> str:
    """``11-19 → 11-20``"""
    return f"{labels[comparisons.before.sweep]} → {labels[comparisons.after.sweep]}"


def change_text(found: NightChange) -> str:
    """``0.903× (0.880–0.926), slower``"""
    low, high = found.ratio.low, found.ratio.high
    span = "from one trial" if low is None or high is None else f"{low:.3f}–{high:.3f}"
    return f"{found.ratio.value:.3f}× ({span}), {clear_direction(found)}"


def clear_direction(found: NightChange) -> str:
    return found.clear_direction or INCONCLUSIVE


def join_first(notes: Sequence[str], separator: str = "; ") -> str:
    """The first few, and how many more there are."""
    more = f" and {len(notes) - MAX_LISTED} more" if len(notes) > MAX_LISTED else ""
    return f"{separator.join(notes[:MAX_LISTED])}{more}"


def _outcomes(night: Night) -> str:
    """``14 ok, 2 skipped``"""
    counts = Counter(cell.outcome for cell in night.cells)
    return (
        ", ".join(
            f"{counts[name]} {name}" for name in ("ok", "failed", "timeout", "invalid", "skipped") if counts[name]
        )
        or "none"
    )


def _overhead(found: Estimate | None) -> str:
    """Of an estimate of throughput watched ÷ unwatched."""
    if found is None:
        return "not measured"
    span = ""
    if found.low is not None and found.high is not None:
        span = f" ({100 - 100 * found.high:.1f} to {100 - 100 * found.low:.1f})"
    return f"{100 - 100 * found.value:.1f} %{span}"


def _sweep_note(night: Night, reference: Night, label: str) -> str:
    differing = environment_differences(night, reference)
    notes = [] if night.finished else ["not finished"]
    if differing:
        notes.append(f"can't be compared with {label}: {join_first(differing)}")
    return "; ".join(notes) or "–"
