"""What a sample costs in energy: figures over ranks and a table, or why it is unknown. All of it stands here.

What trials cost, and what a million samples cost by that; unknown costs with their reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from reports.analysis import case_titles, formatting
from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate
from reports.analysis.telemetry import ENERGY_READINGS
from reports.page.elements import Figure, Section, Table
from reports.page.series import series_by_ranks

DEVICE_TITLES = {"cpu_energy": "CPU packages of the hosts", "gpu_energy": "GPUs of the ranks"}
NOT_SAMPLED = "not sampled"


def energy_section(groups: Sequence[Sequence[Cell]], styles: Mapping[str, int]) -> Section:
    """``groups``: as they are drawn. Without a cell it has no row."""
    figures = tuple(
        figure
        for number, group in enumerate(groups)
        for name in ENERGY_READINGS
        if (figure := _figure(f"energy{number}", name, group, styles)) is not None
    )
    cells = [cell for group in groups for cell in group if cell.throughput is not None]
    header = ("cell", "of", "energy (95 %)", "trials")
    note = (
        "Energy of the devices during the measured window ÷ what all ranks got done in it. CPU packages count whatever "
        "else ran on the hosts."
    )
    rows = (*_known_rows(cells), *_unknown_rows(cells))
    return Section("Energy", figures=figures, tables=(Table("Energy by sample, byte or element", header, rows, note),))


def _estimate(name: str, cell: Cell) -> Estimate | None:
    return next((one.estimate for one in cell.usage if one.name == name), None)


def _figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Figure | None:
    estimate_of = partial(_estimate, name)
    series, rows = series_by_ranks(cells, styles, estimate_of, formatting.estimate)
    known = [(cell, found) for cell in cells if (found := estimate_of(cell)) is not None]
    if not known:
        return None
    unit = known[0][1].unit
    least, found = min(known, key=lambda one: one[1].value)
    where = case_titles.backend_at_ranks(least.case)
    sentence = f"The least is {formatting.estimate(found)}, with {where}."
    table = Table("Energy over ranks", ("backend", "ranks", "energy (95 % interval)", "trials", "flags"), rows)
    return Figure(
        f"{key}-{name.replace('_', '-')}",
        f"{case_titles.group_title(cells)}: {DEVICE_TITLES[name]}",
        "ranks",
        f"energy ({unit})",
        series,
        sentence,
        table,
    )


def _known_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    for cell in cells:
        for name in ENERGY_READINGS:
            if (found := _estimate(name, cell)) is not None:
                yield case_titles.case_title(cell.case), DEVICE_TITLES[name], formatting.estimate(found), str(found.n)


def _unknown_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """A row a reason, not a cell. A GPU that no cell used is no gap."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        reasons = {
            one.name: one.reason or "" for one in cell.usage if one.estimate is None and one.name in ENERGY_READINGS
        }
        if not any(one.name in ENERGY_READINGS for one in cell.usage):
            reasons = {"cpu_energy": NOT_SAMPLED}
        for name, reason in reasons.items():
            found.setdefault((name, reason), []).append(cell)
    for (name, reason), cells_without in found.items():
        which = (
            case_titles.case_title(cells_without[0].case) if len(cells_without) == 1 else f"{len(cells_without)} cells"
        )
        yield which, DEVICE_TITLES[name], f"unknown: {reason}", "–"


NO_PRICE = "the site named no cost: give it a price"
MILLION = 1e6


def cost_table(cells: Sequence[Cell]) -> Table:
    """A row a cell that ran at a site that bills; none where nothing was billed."""
    rows = tuple(_cost_row(cell) for cell in cells if cell.cost is not None or cell.cost_reason)
    header = ("cell", "cost of a trial (95 %)", "trials", "per million, at least", "per million, at most")
    note = (
        "In the unit of the price that was given. Per million samples (bytes, elements): at most the whole trial's "
        "cost over the samples of its measured window, start and warm-up paid for; at least the cost of the time that "
        "the window takes, as if the trial had been billed from when it was asked for. The longer a run, the nearer "
        "to the lower one."
    )
    return Table("What it cost", header, rows, note)


def _cost_row(cell: Cell) -> tuple[str, ...]:
    title = case_titles.case_title(cell.case)
    if cell.cost is None:
        return title, f"unknown: {cell.cost_reason or NO_PRICE}", "–", "–", "–"
    bounds = ("–", "–") if cell.cost_per_unit is None else _per_million(cell.cost_per_unit)
    return title, formatting.estimate(cell.cost, unit=False), str(cell.cost.n), *bounds


def _per_million(found: tuple[float, float]) -> tuple[str, str]:
    least, most = (formatting.number(MILLION * one) for one in found)
    return least, most
