"""The tables of an index over many sweeps, from nights to rows of text and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from reports.analysis.stats import Estimate
from reports.nights import Change, Comparison, Night, differences
from reports.page import words
from reports.page.values import Link, Table

FEW = 4
UNCLEAR = "can't be told"


def sweeps(nights: Sequence[Night], reference: Night, labels: dict[str, str]) -> Table:
    """The newest first; those that can't be compared with ``reference`` say why."""
    rows = tuple(
        (
            Link(night.sweep, night.href),
            night.started_at[:16].replace("T", " "),
            night.suite,
            night.commit,
            night.machine,
            _outcomes(night),
            _cost(night.own_cost),
            _note(night, reference, labels[reference.sweep]),
        )
        for night in reversed(nights)
    )
    header = ("report", "began", "suite", "commit", "machine", "cells", "own cost (95 %)", "note")
    note = "Own cost: the share of throughput that step timing and sampling take. Times are as the sweep recorded them."
    return Table("Reports, the newest first", header, rows, note)


def part(table: Table, start: int | None, stop: int | None) -> Table:
    return replace(table, rows=table.rows[start:stop])


def changed(last: Comparison, first: Comparison, labels: dict[str, str]) -> Table:
    """A row for each cell that both of the last two comparable nights measured."""
    compared = (last,) if first.before == last.before else (last, first)
    found = [{one.cell.key: change(one) for one in each.changes} for each in compared]
    rows = tuple(
        (words.case_title(one.cell.case), words.measured(one.cell.throughput),
         *(known.get(one.cell.key, "–") for known in found))
        for one in last.changes
    )  # fmt: skip
    header = ("cell", "throughput (95 %)", *(span(each, labels) for each in compared))
    note = "Ratios of geometric means over trials, with Welch's 95 % interval. Can't be told: the interval holds 1."
    return Table("Throughput now ÷ then", header, rows, note)


def not_there(nights: Sequence[Night], labels: dict[str, str]) -> Table:
    """A row for each cell and reason, with the sweeps it happened in: the most recent first."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for night in reversed(nights):
        for cell in night.cells:
            if cell.outcome != "ok":
                what = (words.case_title(cell.case), cell.outcome, cell.reason or "unknown")
                found.setdefault(what, []).append(labels[night.sweep])
    rows = tuple((*what, few(seen, ", ")) for what, seen in found.items())
    header = ("cell", "outcome", "reason and remedy", "sweeps, the newest first")
    return Table("Cells that failed, were invalid or were skipped", header, rows)


def span(compared: Comparison, labels: dict[str, str]) -> str:
    """``11-19 → 11-20``"""
    return f"{labels[compared.before.sweep]} → {labels[compared.after.sweep]}"


def change(found: Change) -> str:
    """``0.903× (0.880–0.926), slower``"""
    low, high = found.ratio.low, found.ratio.high
    span = "from one trial" if low is None or high is None else f"{low:.3f}–{high:.3f}"
    return f"{found.ratio.value:.3f}× ({span}), {told(found)}"


def told(found: Change) -> str:
    return found.told or UNCLEAR


def few(said: Sequence[str], separator: str = "; ") -> str:
    """The first few, and how many more there are."""
    more = f" and {len(said) - FEW} more" if len(said) > FEW else ""
    return f"{separator.join(said[:FEW])}{more}"


def _outcomes(night: Night) -> str:
    """``14 ok, 2 skipped``"""
    counts = Counter(cell.outcome for cell in night.cells)
    return ", ".join(f"{counts[name]} {name}" for name in ("ok", "failed", "timeout", "invalid", "skipped")
                     if counts[name]) or "none"  # fmt: skip


def _cost(found: Estimate | None) -> str:
    """Of an estimate of throughput watched ÷ unwatched."""
    if found is None:
        return "not measured"
    span = ""
    if found.low is not None and found.high is not None:
        span = f" ({100 - 100 * found.high:.1f} to {100 - 100 * found.low:.1f})"
    return f"{100 - 100 * found.value:.1f} %{span}"


def _note(night: Night, reference: Night, label: str) -> str:
    differ = differences(night, reference)
    said = [] if night.finished else ["not finished"]
    if differ:
        said.append(f"can't be compared with {label}: {few(differ)}")
    return "; ".join(said) or "–"
