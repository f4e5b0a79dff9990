"""The curves of a sweep: cells that differ in their rank count only, and what their throughputs say together."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.curve import Curve, analyse
from reports.cells import Cell

FEWEST_RANK_COUNTS = 2
"""Fewer are no curve."""


def curves_of(cells: Sequence[Cell]) -> dict[str, Curve]:
    """By the cases' curve key. Cells that feed no claim (oversubscribed, injected, collectives) are left out."""
    rates: dict[str, dict[int, tuple[float, ...]]] = {}
    for cell in cells:
        if cell.rates and cell.speedup is not None and cell.case.fault is None:
            rates.setdefault(cell.case.curve, {})[cell.case.ranks] = cell.rates
    return {key: analyse(key, found) for key, found in rates.items() if len(found) >= FEWEST_RANK_COUNTS}
