"""What work costs, and what it emits, at a stated price and a stated intensity of electricity (pure).

    cost of an amount A   =  A ÷ X · price · machines            X: throughput
    CO₂ of an amount A    =  A · E · intensity ÷ 3.6·10⁶ J/kWh     E: energy of a unit of work
    cost of a time T      =  T · price · machines

Prices and intensities are facts of the user's, without a default. Intervals are those of the throughput, the energy or
the time; the interval of an energy allows for the error of its counter (:mod:`reports.analysis.energy_errors`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from reports.analysis.stats import Estimate

if TYPE_CHECKING:
    from reports.analysis.cells import Cell

HOUR_S = 3600.0
JOULES_PER_KWH = 3.6e6
MILLION = 1e6
PRICE = re.compile(r"(?P<amount>\d+(\.\d+)?|\.\d+)\s*(?P<currency>[A-Za-z]{3}|[€$£¥])?\s*(/\s*(?P<per>node|gpu))?")
PRICE_EXAMPLES = "2.50, '2.50 EUR' or '2.50 USD/gpu'"
ENERGIES = ("cpu_energy", "gpu_energy")
TIME_TO_ACCURACY = "time_to_accuracy"
"""The reading of a workload that trains to an accuracy, in seconds."""


class Price(FrozenModel):
    """The price of an hour of a node, or of a GPU."""

    amount: float
    currency: str = ""
    """A code or a sign; empty: the user named none."""
    per: Literal["node", "gpu"] = "node"

    def __str__(self) -> str:
        return f"{self.amount:g}{f' {self.currency}' if self.currency else ''}/{self.per}"


class Pricing(FrozenModel):
    """What a user says about prices."""

    price: Price | None = None
    co2_g_per_kwh: float | None = None
    """The intensity of the electricity, in grams of CO₂ (or of what is equivalent to it) a kilowatt-hour."""
    target: float | None = None
    """An amount of work to reach, in the workload's unit."""

    @property
    def asked(self) -> bool:
        return any(value is not None for value in (self.price, self.co2_g_per_kwh, self.target))


NO_PRICING = Pricing()


class Priced(FrozenModel):
    """One quantity of a cell, or why it is unknown."""

    value: Estimate | None = None
    reason: str | None = None


class PricedCell(FrozenModel):
    """What the work of a cell costs. ``None``: it was not asked for.

    ``per_million``: of a million units of work. ``target``: to :attr:`Pricing.target`.
    """

    case: Case
    unit: str
    cost_per_million: Priced | None = None
    co2_g_per_million: Priced | None = None
    time_to_target: Priced | None = None
    cost_to_target: Priced | None = None
    time_to_accuracy: Priced | None = None
    cost_to_accuracy: Priced | None = None


def parse_price(text: str) -> Price:
    """``2.50``, ``2.50 EUR`` (both a node's) or ``2.50 USD/gpu``. Raises ``ValueError`` saying what is expected."""
    match = PRICE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"is no price; write the price of an hour as {PRICE_EXAMPLES}")
    per: Literal["node", "gpu"] = "gpu" if match["per"] == "gpu" else "node"
    return Price(amount=float(match["amount"]), currency=(match["currency"] or "").upper(), per=per)


def price_cells(cells: Sequence[Cell], pricing: Pricing) -> tuple[PricedCell, ...]:
    """The costs of the cells that were measured; none where nothing was asked for and none trained to an accuracy."""
    measured = [cell for cell in cells if cell.throughput is not None]
    return tuple(_priced(cell, pricing) for cell in measured if pricing.asked or _time_to_accuracy(cell) is not None)


def machines(case: Case, price: Price) -> int | None:
    """How many nodes or GPUs are paid for; ``None`` where a price of GPUs does not tell that of a case on CPUs."""
    if price.per == "node":
        return case.nodes
    return case.nodes * case.gpus_on_a_node or None


def _priced(cell: Cell, pricing: Pricing) -> PricedCell:
    assert cell.throughput is not None
    time_of = _times(cell.throughput)
    to_target = None if pricing.target is None else Priced(value=time_of(pricing.target))
    accuracy = _time_to_accuracy(cell)
    return PricedCell(
        case=cell.case,
        unit=cell.throughput.unit.removesuffix("/s"),
        cost_per_million=_cost(cell.case, Priced(value=time_of(MILLION)), pricing.price),
        co2_g_per_million=None if pricing.co2_g_per_kwh is None else _co2(cell, pricing.co2_g_per_kwh),
        time_to_target=to_target,
        cost_to_target=_cost(cell.case, to_target, pricing.price),
        time_to_accuracy=accuracy,
        cost_to_accuracy=_cost(cell.case, accuracy, pricing.price),
    )


def _times(throughput: Estimate) -> Callable[[float], Estimate]:
    """The time of an amount of work at a throughput, in seconds: the ends of the interval change places."""

    def time_of(amount: float) -> Estimate:
        return Estimate(
            value=amount / throughput.value,
            low=amount / throughput.high if throughput.high else None,
            high=amount / throughput.low if throughput.low else None,
            n=throughput.n,
            unit="s",
        )

    return time_of


def _cost(case: Case, time: Priced | None, price: Price | None) -> Priced | None:
    if time is None or price is None:
        return None
    count = machines(case, price)
    if count is None:
        return Priced(reason="the price is that of a GPU, and its ranks compute on CPUs")
    if time.value is None:
        return time
    return Priced(value=_scaled(time.value, count * price.amount / HOUR_S, price.currency))


def _co2(cell: Cell, intensity_g_per_kwh: float) -> Priced:
    """Of all devices whose energy is known: GPUs' alone would leave out the hosts."""
    readings = {reading.name: reading for reading in cell.usage if reading.name in ENERGIES}
    known = [reading.estimate for reading in readings.values() if reading.estimate is not None]
    unknown = [f"{name.replace('_', ' ')}: {reading.reason}" for name, reading in readings.items() if reading.reason]
    if not known:
        return Priced(reason="; ".join(unknown) or "no energy was sampled")
    factor = MILLION * intensity_g_per_kwh / JOULES_PER_KWH
    total = _sum(known)
    return Priced(value=_scaled(total, factor, "g"), reason="; ".join(f"without {text}" for text in unknown) or None)


def _sum(parts: Sequence[Estimate]) -> Estimate:
    """The sum of estimates, with the sum of their ends: errors of one trial's counters may have one cause."""
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    return Estimate(
        value=sum(part.value for part in parts),
        low=None if None in lows else max(0.0, sum(low or 0.0 for low in lows)),
        high=None if None in highs else sum(high or 0.0 for high in highs),
        n=min(part.n for part in parts),
        unit=parts[0].unit,
    )


def _scaled(value: Estimate, factor: float, unit: str) -> Estimate:
    return Estimate(
        value=factor * value.value,
        low=None if value.low is None else factor * value.low,
        high=None if value.high is None else factor * value.high,
        n=value.n,
        unit=unit,
    )


def _time_to_accuracy(cell: Cell) -> Priced | None:
    """``None`` where the workload does not train to an accuracy."""
    reading = next((reading for reading in cell.readings if reading.name == TIME_TO_ACCURACY), None)
    return None if reading is None else Priced(value=reading.estimate, reason=reading.reason)
