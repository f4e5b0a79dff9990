from __future__ import annotations

import pytest

from reports.analysis.cells import make_cells
from reports.analysis.formatting import estimate, quantity
from reports.analysis.stats import Estimate
from reports.analysis.step_prediction import step_model_data
from reports.analysis.units import energy_unit, join_units, rate_unit
from tests.support.builders import make_case, make_record, make_trial


@pytest.mark.parametrize(
    ("unit", "rate", "energy"),
    [
        ("samples", "samples/s", "J/sample"),
        ("bytes", "B/s", "J/B"),
        ("elements", "elements/s", "J/element"),
        ("tokens", "tokens/s", "J/token"),
        ("batches", "batches/s", "J/batch"),
        ("queries", "queries/s", "J/query"),
        ("classes", "classes/s", "J/class"),
        ("loss", "loss/s", "J/loss"),
        ("s", "s/s", "J/s"),
        ("Bilder", "Bilder/s", "J/Bilder"),
    ],
)
def test_units_that_follow(unit, rate, energy):
    assert (rate_unit(unit), energy_unit(unit)) == (rate, energy)


def test_a_heading_names_every_unit_once():
    assert join_units(["samples/s", "tokens/s", "samples/s"]) == "samples/s or tokens/s"
    assert join_units([]) == ""


def test_a_reading_without_a_unit_is_shown():
    assert quantity(2.5, "") == "2.50"


@pytest.mark.parametrize(
    ("time_s", "shown"), [(12.5, "12.5 s"), (0.000153, "0.153 ms"), (0.00001, "10.0 µs"), (0.0, "0 s")]
)
def test_a_short_time_is_no_row_of_zeros(time_s, shown):
    assert quantity(time_s, "s") == shown


@pytest.mark.parametrize(
    ("joules", "low", "high", "shown"),
    [
        (5.0, 4.9, 5.1, "5.00 (4.90–5.10) J/sample"),
        (2.19e-4, 2.17e-4, 2.21e-4, "219 (217–221) µJ/sample"),
        (0.0227, None, None, "22.7 mJ/sample"),
        (3e-9, 2e-9, 4e-9, "3.00 (2.00–4.00) nJ/sample"),
        (2e-13, None, None, "0.200 pJ/sample"),
        (0.0, None, None, "0 J/sample"),
        (15_800.0, None, None, "15.8 kJ/sample"),
    ],
)
def test_a_small_energy_is_no_row_of_zeros(joules, low, high, shown):
    assert estimate(Estimate(value=joules, low=low, high=high, n=3, unit="J/sample")) == shown


def cells_of(**changes):
    case = make_case(ranks=1)
    ranks = (make_record(0, 1, gradients=None, **changes),)
    return make_cells([case], {}, [make_trial(case, ranks=ranks)], {})


def test_a_cell_counts_in_the_unit_of_its_workload():
    (cell,) = cells_of(unit="tokens", amount_per_step=4096)
    assert cell.throughput is not None
    assert (cell.throughput.unit, cell.throughput.value) == ("tokens/s", pytest.approx(40960))
    assert cell.labels.throughput == "41.0k tokens/s"


def test_steps_are_not_predicted_in_units_that_a_batch_is_not_counted_in():
    from bench.core.gradients import GradientBuckets, Gradients

    gradients = Gradients(tensor_bytes=(8,), grouping=GradientBuckets(first_bytes=1, most_bytes=1, laid_out=True))
    (cell,) = cells_of(unit="tokens", amount_per_step=4096)
    reason = step_model_data([cell.model_copy(update={"gradients": gradients})], 1)
    assert reason == "the step model counts the samples of a batch; this workload counts tokens of its own"
