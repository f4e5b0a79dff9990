"""What each curve of a sweep is expected to give at rank counts that were not run, and how good such a word is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from bench.case import Case
from bench.gradients import Gradients
from bench.records import Value
from reports.analysis.communication import Exchange
from reports.analysis.curve import analyse
from reports.analysis.forecast import Carrier, Explained, Observed, StepModel, explain, fit_steps
from reports.analysis.layers import LayeredAlgorithm, Source
from reports.analysis.scaling import Prediction, around
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_model import OwnModel
from reports.carriers import LinkSpec, busy_cores, measured_carrier, over_link
from reports.cells import Cell
from reports.details import Decomposition
from reports.exchanges import Way, way_of
from reports.placement import Spread, place_of, spread_of

Kind = Literal["step", "law"]
"""``step``: from compute, α and β; ``law``: USL, Amdahl or linear, whichever suffices."""
STEP_MODEL = "compute + α–β"
FEWEST_FOR_A_LAW = 3
FEWEST_DECOMPOSED = 2
TRUSTED_BELOW = 0.2
"""A step model that misses the measured by more is not used to foretell."""
FURTHER = (2, 4, 8)
AT_SCALE = (8, 64, 512, 4096)


class Asked(NamedTuple):
    """What is to be foretold: where, how many ranks a node holds there, and over which link that was not measured."""

    counts: tuple[int, ...] = ()
    """Without any: 2, 4 and 8 times the largest."""
    link: LinkSpec | None = None
    ranks_per_node: int | None = None
    """Without it: as many as were measured."""


NOTHING_ASKED = Asked()


class Foretold(Value):
    """Throughput and efficiency at a rank count, with 95 % intervals for one further measurement."""

    prediction: Prediction
    efficiency: Estimate


class Backtest(Value):
    """The largest measured rank count, as it would have been foretold from the smaller ones."""

    kind: Kind
    model: str
    smaller: tuple[int, ...]
    exchange_ranks: tuple[int, ...] = ()
    """Where the allreduces were measured that α and β come from."""
    prediction: Prediction
    measured: Estimate

    @property
    def error(self) -> float:
        """Foretold ÷ measured − 1."""
        return self.prediction.throughput / self.measured.value - 1

    @property
    def held(self) -> bool | None:
        """Whether the interval holds the measured value; ``None`` where there is no interval."""
        if self.prediction.low is None or self.prediction.high is None:
            return None
        return self.prediction.low <= self.measured.value <= self.prediction.high


class Inputs(Value):
    """What the step model of a curve is made of."""

    inside: Exchange | None
    """α and β inside a node."""
    across: Exchange | None
    """α and β of the link between nodes."""
    layered: LayeredAlgorithm | None
    """What several ranks on each of several nodes are taken to run, as :attr:`source` says."""
    source: Source | None
    own: OwnModel
    """What a rank does by itself."""


class Forecast(Value):
    """All that is foretold of one curve. Without predictions :attr:`reason` says why."""

    curve: str
    case: Case
    measured_at: tuple[int, ...]
    ranks_per_node: int | None = None
    """Where it is foretold; ``None``: all on one node."""
    kind: Kind | None = None
    model: str = "none"
    reason: str | None = None
    inputs: Inputs | None = None
    """Of the step model, where it is used."""
    explained: tuple[Explained, ...] = ()
    misfit: float | None = None
    """Of the step model, where there is one."""
    foretold: tuple[Foretold, ...] = ()
    impossible: tuple[int, ...] = ()
    """Rank counts that were asked for and have no share of the batch."""
    unknown: dict[int, str] = Field(default={})
    """Rank counts that were asked for and can't be foretold, with the reason."""
    at_scale: tuple[Foretold, ...] = ()
    """Over the link that was asked about; without any :attr:`at_scale_reason` says why."""
    at_scale_reason: str | None = None
    backtests: tuple[Backtest, ...] = ()


class Known(NamedTuple):
    """What a step model is made of, but for the exchange."""

    observed: list[Observed]
    gradients: Gradients
    case: Case

    def fit(self, carrier: Carrier | None) -> StepModel:
        return fit_steps(self.observed, self.case.scaling, self.case.batch, self.gradients, carrier)


def forecasts_of(
    fed: Mapping[str, Sequence[Cell]], ways: Mapping[str, Way], asked: Asked = NOTHING_ASKED
) -> tuple[Forecast, ...]:
    """One a curve; ``fed``: its cells, the fewest ranks first."""
    found = []
    for key, own in fed.items():
        way = ways.get(way_of(own[0].case))
        forecast = _forecast(key, own, way, asked)
        found.append(_over_link(forecast, own, way, asked) if asked.link else forecast)
    return tuple(found)


def _forecast(key: str, cells: Sequence[Cell], way: Way | None, asked: Asked) -> Forecast:
    case, measured_at = cells[0].case, tuple(cell.case.ranks for cell in cells)
    counts = sorted(set(asked.counts)) or [measured_at[-1] * factor for factor in FURTHER]
    forecast = Forecast(
        curve=key,
        case=case,
        measured_at=measured_at,
        ranks_per_node=asked.ranks_per_node or spread_of(case).width,
        impossible=tuple(count for count in counts if not _possible(case, count)),
        backtests=_backtests(cells, way),
    )
    wanted = [Spread(count, forecast.ranks_per_node) for count in counts if _possible(case, count)]
    known, carrier = _known(cells, FEWEST_DECOMPOSED), measured_carrier(way, cells)
    why = known if isinstance(known, str) else carrier if isinstance(carrier, str) else None
    if not isinstance(known, str) and not isinstance(carrier, str) and way is not None:
        model = known.fit(carrier)
        explained = explain(known.observed, case.scaling, case.batch, known.gradients, carrier)
        forecast = forecast.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
        if model.misfit <= TRUSTED_BELOW:
            return _by_steps(forecast, model, way, wanted, cells[0])
        why = f"the step model misses the measured steps by {model.misfit:.0%}"
    return _by_law(forecast, cells, wanted, why)


def _by_steps(forecast: Forecast, model: StepModel, way: Way, wanted: Sequence[Spread], base: Cell) -> Forecast:
    """What the parts of a step give; where an exchange was not measured, the reason."""
    unknown = {spread.ranks: why for spread in wanted if (why := way.why_not(spread)) is not None}
    width = forecast.ranks_per_node
    there = Carrier(lambda ranks, size: way.time_s(Spread(ranks, width), size), busy_cores(way, wanted, base.case))
    layered = way.layered if any(spread.place == "both" for spread in wanted) else None
    return forecast.model_copy(
        update={
            "kind": "step",
            "model": STEP_MODEL,
            "unknown": unknown,
            "foretold": tuple(
                _foretold(model.predict(spread.ranks, there), base) for spread in wanted if spread.ranks not in unknown
            ),
            "inputs": Inputs(
                inside=way.model("inside"),
                across=layered.across if layered else way.model("across"),
                layered=layered.algorithm if layered else None,
                source=layered.source if layered else None,
                own=model.own,
            ),
        }
    )


def _by_law(forecast: Forecast, cells: Sequence[Cell], wanted: Sequence[Spread], why: str | None) -> Forecast:
    """What a law of scaling gives, which knows no nodes: it speaks where ranks are placed as they were measured."""
    if len(cells) < FEWEST_FOR_A_LAW:
        return forecast.model_copy(update={"reason": f"{why}; a law of scaling takes {FEWEST_FOR_A_LAW} rank counts"})
    seen = {place_of(cell.case) for cell in cells if cell.case.ranks > 1}
    unknown = {}
    if forecast.ranks_per_node is not None:
        elsewhere = forecast.ranks_per_node != spread_of(cells[0].case).width
        unknown = {spread.ranks: f"{why}; a law of scaling knows no nodes, and none was measured with ranks placed so"
                   for spread in wanted if elsewhere or spread.place not in seen}  # fmt: skip
    law = analyse(forecast.curve, _rates(cells), predict=[one.ranks for one in wanted if one.ranks not in unknown])
    foretold = tuple(_foretold(prediction, cells[0]) for prediction in law.predictions)
    return forecast.model_copy(
        update={"kind": "law", "model": law.model or "none", "reason": why, "foretold": foretold, "unknown": unknown}
    )


def _over_link(forecast: Forecast, cells: Sequence[Cell], way: Way | None, asked: Asked) -> Forecast:
    """With what the curve would give over another link: it takes the ranks' own work, and of measured exchanges only
    the one inside a node where several ranks share one."""
    known = _known(cells, FEWEST_DECOMPOSED)
    if isinstance(known, str):
        return forecast.model_copy(update={"at_scale_reason": known})
    there = over_link(asked.link, way, forecast.ranks_per_node or 1) if asked.link else "no link was named"
    if isinstance(there, str):
        return forecast.model_copy(update={"at_scale_reason": there})
    model = known.fit(None)
    if forecast.misfit is not None:
        # How far the model is off where it could be judged is the least that it may be off elsewhere.
        judged = sum(one.ranks > 1 for one in forecast.explained)
        model = model.model_copy(update={"misfit": forecast.misfit, "seen": judged})
    found = tuple(
        _foretold(model.predict(count, there), cells[0])
        for count in sorted({*AT_SCALE, *asked.counts})
        if _possible(forecast.case, count)
    )
    why = None if found else f"a batch of {forecast.case.batch} can't be cut into that many"
    return forecast.model_copy(update={"at_scale": found, "at_scale_reason": why})


def _possible(case: Case, ranks: int) -> bool:
    """A batch can't be cut into more pieces than it has samples."""
    return case.scaling == "weak" or ranks <= case.batch


def _known(cells: Sequence[Cell], fewest: int) -> Known | str:
    """What the cells of a curve tell of a step, or why that is not enough."""
    gradients = next((cell.gradients for cell in cells if cell.gradients is not None), None)
    if gradients is None:
        return "it is not known what a step exchanges"
    alone = next((cell.decomposition for cell in cells if cell.case.ranks == 1 and cell.decomposition), None)
    handling_s = max(0.0, alone.parts_s["exposed"].value) if alone else 0.0
    observed = [
        Observed(
            ranks=cell.case.ranks,
            rates=cell.rates,
            parts_s=_own_parts(cell.decomposition, handling_s),
        )
        for cell in cells
        if cell.decomposition is not None
    ]
    if len(observed) < fewest:
        return f"{len(observed)} rank counts were decomposed, it takes {fewest}"
    return Known(observed, gradients, cells[0].case)


def _own_parts(found: Decomposition, handling_s: float) -> dict[str, float]:
    own = {name: part.value for name, part in found.parts_s.items() if name != "exposed"}
    return {**own, "handling": handling_s}


def _rates(cells: Sequence[Cell]) -> dict[int, tuple[float, ...]]:
    return {cell.case.ranks: cell.rates for cell in cells}


def _foretold(prediction: Prediction, base: Cell) -> Foretold:
    """Efficiency starts from the smallest measured rank count, which has an interval of its own."""
    start = estimate(base.rates, "samples/s")
    ideal = start.value / base.case.ranks * prediction.ranks
    found = Estimate(value=prediction.throughput / ideal, low=None, high=None, n=len(base.rates), unit="1")
    if prediction.low is not None and prediction.high is not None:
        of_base = math.log(start.high / start.value) if start.high is not None else 0.0
        half = math.hypot(math.log(prediction.high / prediction.throughput), of_base)
        low, high = around(found.value, half)
        found = found.model_copy(update={"low": low, "high": high})
    return Foretold(prediction=prediction, efficiency=found)


def _backtests(cells: Sequence[Cell], way: Way | None) -> tuple[Backtest, ...]:
    """By each model that the smaller rank counts allow.

    The exchange at the most nodes (on one node: at the most ranks) is not looked at either, unless no smaller count
    exchanges over what it does: the compute of one rank and the allreduces of two then foretell the step of two, which
    neither has seen.
    """
    smaller, last = cells[:-1], cells[-1]
    if last.throughput is None:
        return ()
    ranks, counts = last.case.ranks, tuple(cell.case.ranks for cell in smaller)
    found = []
    seen = {place_of(cell.case) for cell in smaller if cell.case.ranks > 1}
    used = way.below(spread_of(last.case)) if way is not None and place_of(last.case) in seen else way
    known, carrier = _known(smaller, 1), measured_carrier(used, [last])
    if not isinstance(known, str) and not isinstance(carrier, str) and used is not None:
        found.append(
            Backtest(kind="step", model=STEP_MODEL, smaller=counts,
                     exchange_ranks=used.rank_counts(place_of(last.case)), measured=last.throughput,
                     prediction=known.fit(carrier).predict(ranks, carrier))
        )  # fmt: skip
    if len(smaller) >= FEWEST_FOR_A_LAW:
        law = analyse("", _rates(smaller), predict=(ranks,))
        if law.predictions:
            found.append(Backtest(kind="law", model=law.model or "none", smaller=counts, measured=last.throughput,
                                  prediction=law.predictions[0]))  # fmt: skip
    return tuple(found)
