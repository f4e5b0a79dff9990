"""What cells use on the page: energy per sample, and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup
from reports.analysis.stats import Estimate
from reports.analysis.telemetry import ENERGY_READINGS
from reports.page.elements import Figure, Section, Table
from reports.page.palette import SeriesStyle
from reports.page.series import series_by_ranks

DEVICE_TITLES = {"cpu_energy": "CPU packages of the hosts", "gpu_energy": "GPUs of the ranks"}
NOT_SAMPLED = "not sampled"


def energy_section(groups: Sequence[CellGroup], styles: Mapping[str, SeriesStyle]) -> Section:
    """Energy per sample: figures over ranks, and a table that also has the reasons where it is unknown."""
    figures = tuple(
        figure
        for number, group in enumerate(groups)
        for name in ENERGY_READINGS
        for figure in _energy_figures(f"energy{number}", name, group, styles)
    )
    cells = [cell for group in groups for cell in group.cells if cell.throughput is not None]
    header = ("cell", "devices", "energy (95 %)", "trials", "error: ends", "error: phase")
    note = (
        "Energy of the devices during the measured window ÷ the work of all ranks in it. CPU packages include "
        "everything that ran on the hosts. Errors are the largest of a trial: by the ends of the window, since a "
        "counter is renewed at intervals (at most so much), and by when the steps began, since the counter of a GPU "
        "does not sample the power all the time (where a step is idle for half of its time). The interval allows for "
        "the latter."
    )
    rows = (*_known_rows(cells), *_unknown_rows(cells))
    return Section("Energy", figures=figures, tables=(Table("Energy per sample, byte or element", header, rows, note),))


def _energy_of(name: str, cell: Cell) -> Estimate | None:
    return next((reading.estimate for reading in cell.usage if reading.name == name), None)


def _energy_figures(key: str, name: str, group: CellGroup, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """One figure for each unit: joules per sample and per step don't share an axis."""
    known = [(cell, value) for cell in group.cells if (value := _energy_of(name, cell)) is not None]
    for number, unit in enumerate(dict.fromkeys(value.unit for _, value in known)):
        of_unit = [entry for entry in known if entry[1].unit == unit]
        yield _energy_figure(f"{key}-{number}" if number else key, name, unit, of_unit, group, styles)


def _energy_figure(
    key: str,
    name: str,
    unit: str,
    known: Sequence[tuple[Cell, Estimate]],
    group: CellGroup,
    styles: Mapping[str, SeriesStyle],
) -> Figure:
    cells = [cell for cell, _ in known]
    series, rows = series_by_ranks(cells, styles, partial(_energy_of, name), formatting.estimate)
    least, value = min(known, key=lambda entry: entry[1].value)
    where = least.labels.backend_at_ranks
    caption = f"The lowest: {formatting.estimate(value)}, {where}."
    over = " over ranks" if group.has_curve else ""
    table = Table(f"Energy{over}", ("backend", "ranks", "energy (95 % interval)", "trials", "flags"), rows)
    return Figure(
        f"{key}-{name.replace('_', '-')}",
        f"{group.title}: {DEVICE_TITLES[name]}",
        "ranks",
        f"energy ({unit})",
        series,
        caption,
        table,
    )


def _known_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    for cell in cells:
        for name in ENERGY_READINGS:
            if (value := _energy_of(name, cell)) is not None:
                errors = _error_texts(name, cell)
                yield cell.labels.title, DEVICE_TITLES[name], formatting.estimate(value), str(value.n), *errors


def _error_texts(name: str, cell: Cell) -> tuple[str, str]:
    error = next((error for error in cell.energy_errors if error.name == name), None)
    return _share_text(error.ends if error else None), _share_text(error.alias if error else None)


def _share_text(share: float | None) -> str:
    return "–" if share is None else f"±{formatting.small_share(share)}"


def _unknown_rows(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """One row for each reason, not for each cell; a GPU that no cell used is not listed."""
    cells_by_reason: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        reasons = {
            reading.name: reading.reason or ""
            for reading in cell.usage
            if reading.estimate is None and reading.name in ENERGY_READINGS
        }
        if not any(reading.name in ENERGY_READINGS for reading in cell.usage):
            reasons = {"cpu_energy": NOT_SAMPLED}
        for name, reason in reasons.items():
            cells_by_reason.setdefault((name, reason), []).append(cell)
    for (name, reason), cells_without in cells_by_reason.items():
        which = cells_without[0].labels.title if len(cells_without) == 1 else f"{len(cells_without)} cells"
        yield which, DEVICE_TITLES[name], f"unknown: {reason}", "–", "–", "–"


NO_PRICE = "the site reported no cost: set its price"
MILLION = 1e6


def cost_table(cells: Sequence[Cell]) -> Table:
    """One row for each cell of a site with a price; none where nothing was billed."""
    rows = tuple(_cost_row(cell) for cell in cells if cell.cost is not None or cell.cost_reason)
    header = ("cell", "cost of a trial (95 %)", "trials", "per million, at least", "per million, at most")
    note = (
        "In the unit of the given price. Per million units of work (samples, bytes, …): at most the whole trial's cost "
        "over the work of its measured window, with start and warm-up; at least the cost of as much time as the window "
        "takes, as if the trial had been billed from its submission. The longer a run, the closer to the lower bound."
    )
    return Table("Costs", header, rows, note)


def _cost_row(cell: Cell) -> tuple[str, ...]:
    title = cell.labels.title
    if cell.cost is None:
        return title, f"unknown: {cell.cost_reason or NO_PRICE}", "–", "–", "–"
    bounds = ("–", "–") if cell.cost_per_unit is None else _per_million(cell.cost_per_unit)
    return title, formatting.estimate(cell.cost, unit=False), str(cell.cost.n), *bounds


def _per_million(bounds: tuple[float, float]) -> tuple[str, str]:
    least, most = (formatting.number(MILLION * bound) for bound in bounds)
    return least, most
