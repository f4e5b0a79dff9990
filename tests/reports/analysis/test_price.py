"""Costs by hand: what is paid for, for how long, and how intervals turn over."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.errors import UsageError
from harness.planning.suite import Suite
from harness.reporting.pricing import pricing_of
from reports.analysis.cell_details import ReadingCell
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.price import Price, Pricing, parse_price, price_cells
from reports.analysis.stats import Estimate
from reports.page.html import render
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_trial


def measured(trials=((0.1, 0.1),), **case):
    """A cell whose steps of 8 samples take 0.1 s."""
    case = make_case(**{"ranks": 4, "ranks_per_node": 2, "site": "slurm", **case})
    steps = [step_s for pair in trials for step_s in pair]
    return make_cells([case], {}, [make_trial(case, number, step_s) for number, step_s in enumerate(steps)], {})[0]


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("2.50", Price(amount=2.5)),
        (".5 eur", Price(amount=0.5, currency="EUR")),
        ("€", None),
        ("3€/gpu", Price(amount=3, currency="€", per="gpu")),
        ("12 USD / node", Price(amount=12, currency="USD")),
        ("-1", None),
        ("1e3", None),
        ("2,5 EUR", None),
        ("2.5 EUR/hour", None),
    ],
)
def test_a_price_has_an_amount_a_currency_and_what_it_is_of(text, price):
    if price is None:
        with pytest.raises(ValueError, match="write the price of an hour as"):
            parse_price(text)
    else:
        assert parse_price(text) == price


def test_two_nodes_at_80_samples_a_second():
    pricing = Pricing(price=parse_price("3.60 EUR"), target=8e6)
    (row,) = price_cells([measured()], pricing)
    # 10⁶ ÷ 80 = 12,500 s; two nodes at 0.001 EUR a second.
    assert row.cost_per_million.value.value == pytest.approx(25.0)
    assert row.time_to_target.value.value == pytest.approx(100_000)
    assert row.cost_to_target.value.value == pytest.approx(200.0)
    assert (row.unit, row.cost_per_million.value.unit) == ("samples", "EUR")
    assert row.co2_g_per_million is None
    assert row.time_to_accuracy is None


def test_a_slower_end_of_the_interval_is_the_dearer_one():
    cell = measured(trials=((0.1, 0.11), (0.09, 0.1)))
    (row,) = price_cells([cell], Pricing(price=Price(amount=1)))
    cost = row.cost_per_million.value
    assert cost.low < cost.value < cost.high
    assert cost.high == pytest.approx(2 * 1e6 / cell.throughput.low / 3600)


def test_a_price_of_gpus_counts_gpus_and_says_nothing_of_cpus():
    per_gpu = Pricing(price=parse_price("3.60/gpu"))
    (row,) = price_cells([measured(device="cuda", ranks=4, ranks_per_node=4)], per_gpu)
    assert row.cost_per_million.value.value == pytest.approx(4 * 12.5)
    (row,) = price_cells([measured()], per_gpu)
    assert row.cost_per_million.value is None
    assert "compute on CPUs" in row.cost_per_million.reason


def test_co2_is_energy_times_intensity_and_names_what_is_missing():
    def reading(name, value, reason=None):
        known = None if value is None else Estimate(value=value, low=value / 2, high=2 * value, n=3, unit="J/sample")
        return ReadingCell(name=name, estimate=known, reason=reason)

    both = (reading("cpu_energy", 1.2), reading("gpu_energy", 2.4))
    (row,) = price_cells([measured().model_copy(update={"usage": both})], Pricing(co2_g_per_kwh=360))
    # 3.6 J a sample are 1 kWh a million samples.
    assert row.co2_g_per_million.value.value == pytest.approx(360)
    assert row.co2_g_per_million.value.low == pytest.approx(180)
    one = (reading("cpu_energy", None, "no RAPL"), reading("gpu_energy", 3.6))
    (row,) = price_cells([measured().model_copy(update={"usage": one})], Pricing(co2_g_per_kwh=360))
    assert row.co2_g_per_million.reason == "without cpu energy: no RAPL"
    (row,) = price_cells([measured()], Pricing(co2_g_per_kwh=360))
    assert row.co2_g_per_million.value is None
    assert row.co2_g_per_million.reason


def test_the_time_to_an_accuracy_is_priced_and_a_missed_one_has_its_reason():
    reached = Estimate(value=30, low=20, high=40, n=3, unit="s")
    cell = measured().model_copy(update={"readings": (ReadingCell(name="time_to_accuracy", estimate=reached),)})
    (row,) = price_cells([cell], Pricing(price=parse_price("3.60")))
    assert (row.cost_to_accuracy.value.low, row.cost_to_accuracy.value.high) == pytest.approx((0.04, 0.08))
    missed = (ReadingCell(name="time_to_accuracy", estimate=None, reason="77.8 % after 10 epochs"),)
    (row,) = price_cells([measured().model_copy(update={"readings": missed})], Pricing())
    assert row.time_to_accuracy.reason == "77.8 % after 10 epochs"
    assert row.cost_to_accuracy is None
    assert price_cells([measured()], Pricing()) == ()


def test_the_page_says_what_was_stated():
    pricing = Pricing(price=parse_price("3.60 EUR"), co2_g_per_kwh=400, target=8e6)
    html = render(make_page("t", analyse_cells([measured()], pricing=pricing), [], []))
    assert "an hour costs 3.6 EUR/node" in html
    assert "cost of a million (EUR)" in html
    assert "Price and CO₂" not in render(make_page("t", analyse_cells([measured()]), [], []))


def test_options_of_a_report_are_laid_over_those_of_the_sweep():
    suite = Suite(price_per_hour="2 EUR", target=1e6)
    assert pricing_of(suite) == Pricing(price=Price(amount=2, currency="EUR"), target=1e6)
    assert pricing_of(suite, {"price_per_hour": "3/gpu", "co2_g_per_kwh": None}).price == Price(amount=3, per="gpu")
    with pytest.raises(UsageError, match="--price-per-hour cheap: is no price; write the price of an hour as"):
        pricing_of(suite, {"price_per_hour": "cheap"})
    with pytest.raises(UsageError, match="--co2 -1: input should be greater than 0"):
        pricing_of(suite, {"co2_g_per_kwh": -1})
    with pytest.raises(ValidationError, match="is no price"):
        Suite(price_per_hour="cheap")
