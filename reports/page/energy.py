"""What a sample costs in energy: figures over ranks and a table, or why it is unknown. All of it stands here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from reports.analysis.stats import Estimate
from reports.analysis.telemetry import ENERGY
from reports.cells import Cell
from reports.page import words
from reports.page.over_ranks import over_ranks
from reports.page.values import Figure, Section, Table

OF = {"cpu_energy": "CPU packages of the hosts", "gpu_energy": "GPUs of the ranks"}
NOT_SAMPLED = "not sampled"


def energy_section(groups: Sequence[Sequence[Cell]], styles: Mapping[str, int]) -> Section:
    """``groups``: as they are drawn. Without a cell it has no row."""
    figures = tuple(
        figure
        for number, group in enumerate(groups)
        for name in ENERGY
        if (figure := _figure(f"energy{number}", name, group, styles)) is not None
    )
    cells = [cell for group in groups for cell in group if cell.throughput is not None]
    header = ("cell", "of", "energy (95 %)", "trials")
    note = (
        "Energy of the devices during the measured window ÷ what all ranks got done in it. CPU packages count whatever "
        "else ran on the hosts."
    )
    rows = (*_known(cells), *_unknown(cells))
    return Section("Energy", figures=figures, tables=(Table("Energy by sample, byte or element", header, rows, note),))


def _estimate(name: str, cell: Cell) -> Estimate | None:
    return next((one.estimate for one in cell.usage if one.name == name), None)


def _figure(key: str, name: str, cells: Sequence[Cell], styles: Mapping[str, int]) -> Figure | None:
    of = partial(_estimate, name)
    series, rows = over_ranks(cells, styles, of, words.measured)
    known = [(cell, found) for cell in cells if (found := of(cell)) is not None]
    if not known:
        return None
    unit = known[0][1].unit
    least, found = min(known, key=lambda one: one[1].value)
    where = words.located(least.case)
    sentence = f"The least is {words.measured(found)}, with {where}."
    table = Table("Energy over ranks", ("backend", "ranks", "energy (95 % interval)", "trials", "flags"), rows)
    return Figure(f"{key}-{name.replace('_', '-')}", f"{words.group_title(cells)}: {OF[name]}", "ranks",
                  f"energy ({unit})", series, sentence, table)  # fmt: skip


def _known(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    for cell in cells:
        for name in ENERGY:
            if (found := _estimate(name, cell)) is not None:
                yield words.case_title(cell.case), OF[name], words.measured(found), str(found.n)


def _unknown(cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """A row a reason, not a cell. A GPU that no cell used is no gap."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        reasons = {one.name: one.reason or "" for one in cell.usage if one.estimate is None and one.name in ENERGY}
        if not any(one.name in ENERGY for one in cell.usage):
            reasons = {"cpu_energy": NOT_SAMPLED}
        for name, reason in reasons.items():
            found.setdefault((name, reason), []).append(cell)
    for (name, reason), without in found.items():
        which = words.case_title(without[0].case) if len(without) == 1 else f"{len(without)} cells"
        yield which, OF[name], f"unknown: {reason}", "–"
