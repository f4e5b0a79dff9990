"""What a sample costs in energy: figures over ranks and a table, or why it is unknown. All of it stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from reports.analysis.stats import Estimate
from reports.analysis.telemetry import ENERGY_READINGS
from reports.cells import Cell
from reports.page import words
from reports.page.over_ranks import series_by_ranks
from reports.page.values import Figure, Section, Table

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
    series, rows = series_by_ranks(cells, styles, estimate_of, words.estimate)
    known = [(cell, found) for cell in cells if (found := estimate_of(cell)) is not None]
    if not known:
        return None
    unit = known[0][1].unit
    least, found = min(known, key=lambda one: one[1].value)
    where = words.backend_at_ranks(least.case)
    sentence = f"The least is {words.estimate(found)}, with {where}."
    table = Table("Energy over ranks", ("backend", "ranks", "energy (95 % interval)", "trials", "flags"), rows)
    return Figure(
        f"{key}-{name.replace('_', '-')}",
        f"{words.group_title(cells)}: {DEVICE_TITLES[name]}",
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
                yield words.case_title(cell.case), DEVICE_TITLES[name], words.estimate(found), str(found.n)


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
        which = words.case_title(cells_without[0].case) if len(cells_without) == 1 else f"{len(cells_without)} cells"
        yield which, DEVICE_TITLES[name], f"unknown: {reason}", "–"
