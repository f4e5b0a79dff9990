"""The section on what work costs, and what it emits, at the price and the intensity that the user stated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.price import Priced, PricedCell, Pricing
from reports.page.elements import Section, Table

TITLE = "Price and CO₂"
COLUMNS = {
    "cost_per_million": "cost of a million",
    "co2_g_per_million": "CO₂ of a million",
    "time_to_target": "time to the target",
    "cost_to_target": "cost to the target",
    "time_to_accuracy": "time to the accuracy",
    "cost_to_accuracy": "cost to the accuracy",
}
"""By the field of :class:`reports.analysis.price.PricedCell`."""


def price_section(priced: Sequence[PricedCell], cells: Sequence[Cell], pricing: Pricing) -> Section:
    """A row a cell; a section without rows where nothing was asked for."""
    titles = {cell.case.key: cell.labels.title for cell in cells}
    return Section(TITLE, _facts(pricing), tables=(price_table(priced, titles, pricing),))


def price_table(priced: Sequence[PricedCell], titles: Mapping[str, str], pricing: Pricing) -> Table:
    """The quantities that were asked for, or that a workload measured. ``titles``: of the cells, by case key."""
    shown = [name for name in COLUMNS if any(getattr(row, name) is not None for row in priced)]
    header = ("cell", "unit of work", *(_title(name, pricing) for name in shown))
    rows = tuple(
        (titles[row.case.key], row.unit, *(_text(getattr(row, name), name) for name in shown)) for row in priced
    )
    note = "Of the measured throughput; start, data and checkpoints come on top. Intervals are 95 % over trials."
    return Table(TITLE, header, rows if shown else (), note)


def _facts(pricing: Pricing) -> str:
    facts = [f"an hour costs {pricing.price}"] if pricing.price else []
    facts += [f"{formatting.number(pricing.co2_g_per_kwh)} g CO₂ a kWh"] if pricing.co2_g_per_kwh is not None else []
    facts += [f"the target is {formatting.number(pricing.target)} units of work"] if pricing.target is not None else []
    return f"As stated: {', '.join(facts)}." if facts else ""


def _title(name: str, pricing: Pricing) -> str:
    currency = pricing.price.currency if pricing.price else ""
    return f"{COLUMNS[name]} ({currency})" if name.startswith("cost") and currency else COLUMNS[name]


def _text(priced: Priced | None, name: str) -> str:
    if priced is None:
        return "–"
    if priced.value is None:
        return f"unknown: {priced.reason}"
    text = formatting.estimate(priced.value, unit=not name.startswith("cost"))
    return text + (f", {priced.reason}" if priced.reason else "")
