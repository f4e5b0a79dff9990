"""Everything that the cells of a sweep say together, found once: what its page and its JSON are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.analysis.curve import Curve
from reports.cells import Cell
from reports.curves import curves_of, fed_by_curve
from reports.exchanges import Way, exchanges_of
from reports.forecasts import NOTHING_ASKED, Asked, Forecast, forecasts_of
from reports.networks import OverLink, networks_of
from reports.placements import Placements, placements_of
from reports.why import Why, reasons


@dataclass(frozen=True)
class Findings:
    """Of one sweep, or of several side by side whose cells are labelled."""

    cells: tuple[Cell, ...]
    curves: Mapping[str, Curve]
    """By the cases' curve key."""
    fed: Mapping[str, tuple[Cell, ...]]
    """The cells that each curve is made of, the fewest ranks first."""
    reasons: tuple[Why, ...]
    exchanges: Mapping[str, Way]
    forecasts: tuple[Forecast, ...]
    asked: Asked
    placements: Placements
    networks: tuple[OverLink, ...]
    """Cells of curves that were measured over several networks."""


def find(cells: Sequence[Cell], asked: Asked = NOTHING_ASKED) -> Findings:
    """``asked``: what is to be foretold."""
    curves, fed = curves_of(cells), fed_by_curve(cells)
    exchanges = exchanges_of(cells)
    forecasts = forecasts_of({key: fed[key] for key in curves}, exchanges, asked)
    return Findings(
        cells=tuple(cells),
        curves=curves,
        fed=fed,
        reasons=reasons(fed, curves),
        exchanges=exchanges,
        forecasts=forecasts,
        asked=asked,
        placements=placements_of(cells),
        networks=networks_of(cells, forecasts),
    )
