"""What a workload of one's own counts: any word and any amount, or a line that says what is wrong."""

from __future__ import annotations

import decimal
from fractions import Fraction

import numpy as np
import pytest

from bench.core.bounds import as_number
from bench.rank.loop import UncountedWorkError, counted_work, read_further
from tests.support.plugins.counting import READINGS, CountingOptions, CountingWork


def work(unit="tokens", amount=8.0, further="nothing") -> CountingWork:
    counting = CountingWork(CountingOptions(further=further))
    counting.unit, counting.amount_per_step = unit, amount
    return counting


@pytest.mark.parametrize(
    "amount",
    [8, 8.0, np.float32(8), np.int64(8), decimal.Decimal(8), Fraction(8), np.array(8.0)],
    ids=lambda amount: type(amount).__name__,
)
def test_numbers_of_any_library_are_numbers(amount):
    assert counted_work(work(amount=amount)) == ("tokens", 8.0)


@pytest.mark.frameworks
def test_a_tensor_of_one_number_is_one():
    import torch

    assert counted_work(work(amount=torch.tensor(8))) == ("tokens", 8.0)
    with pytest.raises(UncountedWorkError, match=r"amount_per_step is .*; it is a number above 0"):
        counted_work(work(amount=torch.ones(2)))


@pytest.mark.parametrize(
    "amount",
    [0, -0.0, -1, 5e-324, 1e308, float("nan"), float("inf"), 10**400, "8", None, True, [8], 8j, np.ones(2)],
    ids=str,
)
def test_an_amount_that_is_none_is_named(amount):
    with pytest.raises(UncountedWorkError, match=r"amount_per_step is .*; it is a number above 0") as caught:
        counted_work(work(amount=amount))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("unit", ["tokens", "samples", "Bilder", "größen", "n-grams", "m2", "x" * 24])
def test_any_word_is_a_unit(unit):
    assert counted_work(work(unit)) == (unit, 8.0)


@pytest.mark.parametrize("unit", ["", " ", "a b", "a/s", "8", "a\n", "a\x1b[31m", "<b>", "x" * 25, None, 8, b"x"])
def test_what_is_no_word_is_named(unit):
    with pytest.raises(UncountedWorkError, match=r"unit is .*; it is one word") as caught:
        counted_work(work(unit))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("further", READINGS)
def test_what_is_returned_beside_never_costs_the_window(further):
    readings, messages = read_further(work(further=further))
    assert messages == ()
    unknown = {"nan": "it read nan", "text": "no readings and messages", "objects": "no readings and messages"}
    assert all(reading.value is None for reading in readings) == (further != "unit")
    assert [unknown[further] in (reading.reason or "") for reading in readings if further in unknown] == (
        [True] if further in unknown else []
    )


def test_a_number_of_none_is_unknown():
    assert as_number(object()) is None
    assert as_number(np.nan) is None
