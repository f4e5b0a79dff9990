"""Everything that the cells of a sweep say together, found once: what its page and its JSON are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.analysis.curve import Curve
from reports.cells import Cell
from reports.curves import curves_of, fed_by_curve
from reports.exchanges import FittedExchange, exchanges_of
from reports.forecasts import Forecast, LinkSpec, forecasts_of
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
    exchanges: Mapping[str, FittedExchange]
    forecasts: tuple[Forecast, ...]
    link: LinkSpec | None
    """The link that was asked about."""


def find(cells: Sequence[Cell], counts: Sequence[int] = (), link: LinkSpec | None = None) -> Findings:
    """``counts``: where to foretell; else at 2, 4, 8 times the largest. ``link``: over what else than was measured."""
    curves, fed = curves_of(cells), fed_by_curve(cells)
    exchanges = exchanges_of(cells)
    return Findings(
        cells=tuple(cells),
        curves=curves,
        fed=fed,
        reasons=reasons(fed, curves),
        exchanges=exchanges,
        forecasts=forecasts_of({key: fed[key] for key in curves}, exchanges, counts, link),
        link=link,
    )
