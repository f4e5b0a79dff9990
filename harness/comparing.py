"""``report A B``: several stored sweeps on one page, and what changed from the first to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.records import Trial
from bench.registry import survey
from harness import report
from harness.errors import UsageError
from harness.outlook import Outlook
from harness.storage.opening import open_store, path_of
from harness.storage.store import DEFAULT_STORE, SweepInfo
from reports.analysis.own_cost import own_cost
from reports.analysis.stats import Estimate
from reports.cells import Cell
from reports.comparison import Comparison, compare, labelled
from reports.findings import find
from reports.page import comparison_section
from reports.page.html import render
from reports.page.model import make_page
from reports.page.tables import sweep_label

MOST_SWEEPS = 8


@dataclass(frozen=True)
class Compared:
    """The sweeps by label, what changed, and their page."""

    sweeps: dict[str, str]
    comparisons: tuple[Comparison, ...]
    page: Path

    def as_json(self) -> dict[str, Any]:
        return {
            "sweeps": self.sweeps,
            "report": str(self.page),
            "comparisons": [
                {
                    **one.model_dump(exclude={"changes"}),
                    "changes": [
                        {
                            "key": change.after.key,
                            "against": change.before.key,
                            "ratio": change.ratio.model_dump() if change.ratio else None,
                            "direction": change.direction,
                            "reason": change.reason,
                        }
                        for change in one.changes
                    ],
                }
                for one in self.comparisons
            ],
        }

    def print(self, console: Console) -> None:
        for label, sweep in self.sweeps.items():
            console.print(f"{label}: {sweep}", markup=False, highlight=False, soft_wrap=True)
        for one in self.comparisons:
            console.print(comparison_section.sentence(one), markup=False, highlight=False, soft_wrap=True)
        console.print(f"report: {self.page}", markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Side:
    """One of the sweeps, and what it is called on the page."""

    label: str
    info: SweepInfo
    cells: tuple[Cell, ...]
    trials: list[Trial]
    cost: Estimate | None


def compare_sweeps(wanted: Sequence[str], store_place: str, page: Path | None, outlook: Outlook) -> Compared:
    """Write the page of several sweeps side by side. Raises :class:`UsageError` and :class:`StoreError`."""
    sides = _sides(wanted, store_place)
    first, *others = sides
    comparisons = tuple(compare(first.label, first.cells, other.label, other.cells) for other in others)
    target = (page or _page_beside(store_place, [side.info.id for side in sides])).resolve()
    titles = ", ".join(f"{side.label} = {side.info.suite.name}" for side in sides)
    never = {skip.case.key: (skip.case, skip.reason) for side in sides for skip in side.info.plan.not_applicable}
    made = make_page(
        f"Scaling report: {titles}",
        find([cell for side in sides for cell in labelled(side.cells, side.label)], outlook.counts, outlook.link),
        list(never.values()),
        side_by_side([report.provenance(side.info, side.cells, side.cost) for side in sides]),
        comparisons,
        [report.raw_numbers((side.info, side.cells, side.trials) for side in sides)],
    )
    report.write_whole(target, render(made))
    return Compared({side.label: side.info.id for side in sides}, comparisons, target)


def _sides(wanted: Sequence[str], store_place: str) -> list[Side]:
    if len(wanted) > MOST_SWEEPS:
        raise UsageError(f"{len(wanted)} sweeps side by side: at most {MOST_SWEEPS}; use --index DIR for more")
    backends, workloads, _ = survey()
    store = open_store(store_place, create=False)
    sides: list[Side] = []
    for number, name in enumerate(wanted):
        info = store.sweep(name)
        if any(side.info.id == info.id for side in sides):
            raise UsageError(f"sweep {info.id} is named twice; name different ones")
        trials = store.trials(info.id)
        cells = report.cells_of(info, trials, backends, workloads)
        sides.append(Side(sweep_label(number), info, cells, trials, own_cost(trials)))
    store.close()
    return sides


def side_by_side(rows: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, ...]]:
    """One row a name, one column a sweep, in the order of the names' first appearance."""
    known = [dict(one) for one in rows]
    return [
        (name, *(one.get(name, "–") for one in known)) for name in dict.fromkeys(name for one in known for name in one)
    ]  # fmt: skip


def _page_beside(store_place: str, names: Sequence[str]) -> Path:
    folder = (path_of(store_place) or Path(DEFAULT_STORE)).parent
    return folder / names[-1] / f"beside-{'-'.join(names[:-1])}.html"
