"""What each curve of a sweep is expected to give at rank counts that were not run, and how good such a word is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from bench.case import Case
from bench.gradients import Gradients
from bench.records import Value
from reports.analysis.communication import fastest_time
from reports.analysis.curve import analyse
from reports.analysis.forecast import Carrier, Explained, Observed, StepModel, explain, fit_steps
from reports.analysis.scaling import Prediction, around
from reports.analysis.stats import Estimate, estimate
from reports.cells import Cell
from reports.details import Decomposition
from reports.exchanges import FittedExchange, way_of

Kind = Literal["step", "law"]
"""``step``: from compute, α and β; ``law``: USL, Amdahl or linear, whichever suffices."""
STEP_MODEL = "compute + α–β"
FEWEST_FOR_A_LAW = 3
FEWEST_DECOMPOSED = 2
TRUSTED_BELOW = 0.2
"""A step model that misses the measured by more is not used to foretell."""
FURTHER = (2, 4, 8)
AT_SCALE = (8, 64, 512, 4096)


class LinkSpec(Value):
    """A link that was not measured but is asked about."""

    label: str
    bytes_s: float
    latency_s: float


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


class Forecast(Value):
    """All that is foretold of one curve. Without predictions :attr:`reason` says why."""

    curve: str
    case: Case
    measured_at: tuple[int, ...]
    kind: Kind | None = None
    model: str = "none"
    reason: str | None = None
    explained: tuple[Explained, ...] = ()
    misfit: float | None = None
    """Of the step model, where there is one."""
    foretold: tuple[Foretold, ...] = ()
    impossible: tuple[int, ...] = ()
    """Rank counts that were asked for and have no share of the batch."""
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
    fed: Mapping[str, Sequence[Cell]],
    exchanges: Mapping[str, FittedExchange],
    counts: Sequence[int] = (),
    link: LinkSpec | None = None,
) -> tuple[Forecast, ...]:
    """One a curve; ``fed``: its cells, the fewest ranks first. ``counts``: where to foretell; else 2, 4 and 8 times
    the largest."""
    found = []
    for key, own in fed.items():
        forecast = _forecast(key, own, exchanges.get(way_of(own[0].case)), counts)
        found.append(_over_link(forecast, own, counts, link) if link else forecast)
    return tuple(found)


def _forecast(key: str, cells: Sequence[Cell], exchange: FittedExchange | None, counts: Sequence[int]) -> Forecast:
    case, measured_at = cells[0].case, tuple(cell.case.ranks for cell in cells)
    asked = sorted(set(counts)) or [measured_at[-1] * factor for factor in FURTHER]
    wanted = [count for count in asked if _possible(case, count)]
    forecast = Forecast(
        curve=key,
        case=case,
        measured_at=measured_at,
        impossible=tuple(count for count in asked if not _possible(case, count)),
        backtests=_backtests(cells, exchange),
    )
    known, time = _known(cells, FEWEST_DECOMPOSED), _carrier(case, exchange)
    why = known if isinstance(known, str) else time if isinstance(time, str) else None
    if not isinstance(known, str) and not isinstance(time, str):
        model = known.fit(time)
        explained = explain(known.observed, case.scaling, case.batch, known.gradients, time)
        forecast = forecast.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
        if model.misfit <= TRUSTED_BELOW:
            foretold = tuple(_foretold(model.predict(count, time), cells[0]) for count in wanted)
            return forecast.model_copy(update={"kind": "step", "model": STEP_MODEL, "foretold": foretold})
        why = f"the step model misses the measured steps by {model.misfit:.0%}"
    if len(cells) < FEWEST_FOR_A_LAW:
        return forecast.model_copy(update={"reason": f"{why}; a law of scaling takes {FEWEST_FOR_A_LAW} rank counts"})
    law = analyse(key, _rates(cells), predict=wanted)
    foretold = tuple(_foretold(prediction, cells[0]) for prediction in law.predictions)
    return forecast.model_copy(
        update={"kind": "law", "model": law.model or "none", "reason": why, "foretold": foretold}
    )


def _over_link(forecast: Forecast, cells: Sequence[Cell], counts: Sequence[int], link: LinkSpec) -> Forecast:
    """With what the curve would give over another link: it takes the ranks' own work, and no measured exchange."""
    known = _known(cells, FEWEST_DECOMPOSED)
    if isinstance(known, str):
        return forecast.model_copy(update={"at_scale_reason": known})
    there = Carrier(fastest_time(link.latency_s, 1 / link.bytes_s))
    model = known.fit(None)
    if forecast.misfit is not None:
        # How far the model is off where it could be judged is the least that it may be off elsewhere.
        judged = sum(one.ranks > 1 for one in forecast.explained)
        model = model.model_copy(update={"misfit": forecast.misfit, "seen": judged})
    found = tuple(
        _foretold(model.predict(count, there), cells[0])
        for count in sorted({*AT_SCALE, *counts})
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


def _carrier(case: Case, exchange: FittedExchange | None) -> Carrier | str:
    if exchange is not None and exchange.model is not None:
        busy = case.device == "cpu" and case.affinity == "cores" and "emulated_compute" not in case.flags
        return Carrier(exchange.model.time_s, exchange.core_share if busy else 0.0)
    if exchange is not None and exchange.reason:
        return exchange.reason
    return f"no allreduce was measured under {case.backend}/{case.transport}"


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


def _backtests(cells: Sequence[Cell], exchange: FittedExchange | None) -> tuple[Backtest, ...]:
    """By each model that the smaller rank counts allow.

    The exchange at the largest is not looked at either, unless it is the only one: the compute of one rank and the
    allreduces of two then foretell the step of two, which neither has seen.
    """
    smaller, last = cells[:-1], cells[-1]
    if last.throughput is None:
        return ()
    ranks, counts = last.case.ranks, tuple(cell.case.ranks for cell in smaller)
    found = []
    used = exchange if counts == (1,) or exchange is None else exchange.below(ranks)
    known, time = _known(smaller, 1), _carrier(last.case, used)
    if not isinstance(known, str) and not isinstance(time, str) and used is not None:
        found.append(
            Backtest(kind="step", model=STEP_MODEL, smaller=counts, exchange_ranks=used.rank_counts,
                     measured=last.throughput, prediction=known.fit(time).predict(ranks, time))
        )  # fmt: skip
    if len(smaller) >= FEWEST_FOR_A_LAW:
        law = analyse("", _rates(smaller), predict=(ranks,))
        if law.predictions:
            found.append(Backtest(kind="law", model=law.model or "none", smaller=counts, measured=last.throughput,
                                  prediction=law.predictions[0]))  # fmt: skip
    return tuple(found)
