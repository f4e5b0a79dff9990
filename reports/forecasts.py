"""What each curve of a sweep is expected to give at rank counts that were not run, and how good such a word is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bench.records import Case, Value
from reports.analysis.communication import fastest_time
from reports.analysis.curve import Curve, analyse
from reports.analysis.forecast import ExchangeTime, Explained, Observed, StepModel, explain, fit_steps
from reports.analysis.scaling import Prediction
from reports.analysis.stats import Estimate, estimate
from reports.cells import Cell
from reports.exchanges import FittedExchange, way_of

Kind = Literal["step", "law"]
"""``step``: from compute, α and β; ``law``: USL, Amdahl or linear, whichever suffices."""
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
    kind: Kind | None
    model: str
    reason: str | None = None
    explained: tuple[Explained, ...] = ()
    misfit: float | None = None
    """Of the step model, where there is one."""
    foretold: tuple[Foretold, ...] = ()
    at_scale: tuple[Foretold, ...] = ()
    """Over the link that was asked about."""
    backtests: tuple[Backtest, ...] = ()


def forecasts_of(
    cells: Sequence[Cell],
    curves: Mapping[str, Curve],
    exchanges: Mapping[str, FittedExchange],
    counts: Sequence[int] = (),
    link: LinkSpec | None = None,
) -> tuple[Forecast, ...]:
    """One a curve with several rank counts. ``counts``: where to foretell; else 2, 4 and 8 times the largest."""
    found = []
    for key in curves:
        fed = (cell for cell in cells if cell.case.curve == key and cell.feeds_a_curve)
        own = sorted(fed, key=lambda cell: cell.case.ranks)
        found.append(_forecast(key, own, exchanges.get(way_of(own[0].case)), counts, link))
    return tuple(found)


def _forecast(
    key: str, cells: Sequence[Cell], exchange: FittedExchange | None, counts: Sequence[int], link: LinkSpec | None
) -> Forecast:
    case, largest = cells[0].case, cells[-1].case.ranks
    wanted = [count for count in counts or (largest * factor for factor in FURTHER) if _possible(case, count)]
    scale = [count for count in dict.fromkeys((*AT_SCALE, *counts)) if _possible(case, count)]
    measured = _steps(cells, exchange)
    forecast = Forecast(curve=key, case=case, kind=None, model="none", backtests=_backtests(cells, exchange))
    if isinstance(measured, str):
        why = measured
    else:
        model, time = measured
        why = f"the step model misses the measured steps by {model.misfit:.0%}"
        explained = explain(_observed(cells), case.scaling, case.batch, model.gradients, time)
        forecast = forecast.model_copy(update={"explained": tuple(explained), "misfit": model.misfit})
        if model.misfit <= TRUSTED_BELOW:
            foretold = tuple(_foretold(model.predict(count, time), cells[0]) for count in wanted)
            there = fastest_time(link.latency_s, 1 / link.bytes_s) if link else time
            at_scale = tuple(_foretold(model.predict(count, there), cells[0]) for count in scale) if link else ()
            name = f"compute + {exchange.model.algorithm} α–β" if exchange and exchange.model else "compute + exchange"
            return forecast.model_copy(
                update={"kind": "step", "model": name, "foretold": foretold, "at_scale": at_scale}
            )
    if len(cells) < FEWEST_FOR_A_LAW:
        return forecast.model_copy(update={"reason": f"{why}; a law of scaling takes {FEWEST_FOR_A_LAW} rank counts"})
    law = analyse(key, _rates(cells), predict=wanted)
    foretold = tuple(_foretold(prediction, cells[0]) for prediction in law.predictions)
    return forecast.model_copy(
        update={"kind": "law", "model": law.model or "none", "reason": why, "foretold": foretold}
    )


def _possible(case: Case, ranks: int) -> bool:
    """A batch can't be cut into more pieces than it has samples."""
    return case.scaling == "weak" or ranks <= case.batch


def _steps(
    cells: Sequence[Cell], exchange: FittedExchange | None, fewest: int = FEWEST_DECOMPOSED
) -> tuple[StepModel, ExchangeTime] | str:
    """The step model of a curve, or why there is none."""
    gradients = next((cell.gradients for cell in cells if cell.gradients is not None), None)
    if gradients is None:
        return "it is not known what a step exchanges"
    if exchange is None or exchange.model is None:
        named = f"{cells[0].case.backend}/{cells[0].case.transport}"
        return exchange.reason if exchange and exchange.reason else f"no allreduce was measured under {named}"
    observed = _observed(cells)
    if len(observed) < fewest:
        return f"{len(observed)} rank counts were decomposed, it takes {fewest}"
    return fit_steps(observed, cells[0].case.scaling, cells[0].case.batch, gradients, exchange.model.time_s), (
        exchange.model.time_s
    )


def _observed(cells: Sequence[Cell]) -> list[Observed]:
    return [
        Observed(
            ranks=cell.case.ranks,
            rates=cell.rates,
            parts_s={part: found.value for part, found in cell.decomposition.parts_s.items() if part != "exposed"},
        )
        for cell in cells
        if cell.decomposition is not None
    ]


def _rates(cells: Sequence[Cell]) -> dict[int, tuple[float, ...]]:
    return {cell.case.ranks: cell.rates for cell in cells}


def _foretold(prediction: Prediction, base: Cell) -> Foretold:
    """Efficiency starts from the smallest measured rank count."""
    ideal = estimate(base.rates, "samples/s").value / base.case.ranks * prediction.ranks
    low, high = prediction.low, prediction.high
    return Foretold(
        prediction=prediction,
        efficiency=Estimate(
            value=prediction.throughput / ideal,
            low=None if low is None else low / ideal,
            high=None if high is None else high / ideal,
            n=len(base.rates),
            unit="1",
        ),
    )


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
    steps = _steps(smaller, exchange if counts == (1,) or exchange is None else exchange.below(ranks), fewest=1)
    if not isinstance(steps, str):
        model, time = steps
        found.append(Backtest(kind="step", model="compute + α–β", smaller=counts, measured=last.throughput,
                              prediction=model.predict(ranks, time)))  # fmt: skip
    if len(smaller) >= FEWEST_FOR_A_LAW:
        law = analyse("", _rates(smaller), predict=(ranks,))
        if law.predictions:
            found.append(Backtest(kind="law", model=law.model or "none", smaller=counts, measured=last.throughput,
                                  prediction=law.predictions[0]))  # fmt: skip
    return tuple(found)
