"""What scaling laws predict, and when they don't."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.analysis.curve import fit_curve
from reports.analysis.laws import denominator

COUNTS = (1, 2, 4, 8, 16, 32)


def single(rates):
    return {ranks: [rate] for ranks, rate in rates.items()}


def exact(law, sigma, kappa=0.0, counts=COUNTS):
    return {ranks: [100 * ranks / denominator(ranks, sigma, kappa, law)] for ranks in counts}


@pytest.mark.parametrize(
    ("rates", "seen"),
    [
        ({2: 2002, 4: 1967, 8: 1144}, "amdahl is 44.4 % above what was measured at 8 ranks"),
        ({1: 161e6, 2: 316e6, 4: 612e6, 8: 195e6}, "what was measured at 4 ranks is 92.9 % above amdahl"),
        ({1: 400, 2: 790, 4: 1580, 8: 1790}, "what was measured at 4 ranks is 20.0 % above amdahl"),
    ],
)
def test_where_no_law_fits_there_is_none(rates, seen):
    """Published by users; linear, the only law left, had promised a recovery at the next rank count."""
    curve = fit_curve("collapsed", single(rates), predict=(16, 64))
    assert (curve.model, curve.predictions, curve.gamma) == (None, (), None)
    assert seen in curve.reason
    assert curve.prediction_reason == curve.reason == curve.fit_flags["no_law"]
    assert [point.throughput.value for point in curve.points] == pytest.approx(list(rates.values()))
    assert ("retrograde" in curve.fit_flags) == (rates[8] < 0.95 * max(rates.values()))


def test_a_named_law_that_misses_predicts_nothing():
    rates = single({1: 400, 2: 790, 4: 1580, 8: 1790})
    curve = fit_curve("collapsed", rates, "linear", predict=(16,))
    assert (curve.model, curve.predictions) == ("linear", ())
    assert curve.prediction_reason == "no predictions: linear is 53.6 % above what was measured at 8 ranks"
    fitted = fit_curve("fine", exact("amdahl", 0.05), "amdahl", predict=(64,))
    assert (fitted.prediction_reason, fitted.prediction_weights) == (None, {"amdahl": 1.0})


@pytest.mark.parametrize("counts", [(1,), (1, 2), (8, 16)])
def test_one_or_two_rank_counts_are_no_law(counts):
    curve = fit_curve("short", exact("linear", 0.0, counts=counts), predict=(64,))
    assert (curve.model, curve.predictions) == (None, ())
    assert curve.fit_flags["too_few_points"].startswith("a scaling law needs 3 rank counts, there ")
    assert curve.points[-1].efficiency.value == pytest.approx(1)


def test_two_rank_counts_still_name_what_is_wrong_with_them():
    flags = fit_curve("short", single({8: 100, 16: 90})).fit_flags
    assert list(flags) == ["no_baseline", "retrograde", "too_few_points"]


@pytest.mark.parametrize(
    ("law", "sigma", "kappa"), [("linear", 0, 0), ("log", 0.1, 0), ("amdahl", 0.02, 0), ("usl", 0.02, 0.002)]
)
def test_an_exact_law_goes_on(law, sigma, kappa):
    """Backtests of the curve itself tell the laws apart."""
    rates = exact(law, sigma, kappa)
    curve = fit_curve(law, rates, predict=(64,))
    truth = 100 * 64 / denominator(64, sigma, kappa, law)
    assert curve.predictions[0].throughput == pytest.approx(truth, rel=0.03)
    if law != "linear":  # To which the others come down.
        assert max(curve.prediction_weights, key=curve.prediction_weights.get) == law
    assert math.fsum(curve.prediction_weights.values()) == pytest.approx(1)


def test_a_prediction_continues_from_the_last_measurement():
    """A curve that lies above every law at its end is not predicted to fall back to them."""
    rates = exact("amdahl", 0.05)
    rates[32] = [rates[32][0] * 1.08]
    curve = fit_curve("", rates, predict=(32, 33))
    at_end, beyond = (prediction.throughput for prediction in curve.predictions)
    assert at_end == pytest.approx(rates[32][0])
    assert beyond > at_end


def test_a_prediction_between_measurements_passes_through_them():
    rates = exact("amdahl", 0.05, counts=(1, 4, 16))
    between = {p.ranks: p for p in fit_curve("", rates, predict=(2, 4, 6, 16)).predictions}
    assert between[4].throughput == pytest.approx(rates[4][0])
    assert between[2].throughput == pytest.approx(100 * 2 / denominator(2, 0.05), rel=0.02)
    assert not any(prediction.extrapolated for prediction in between.values())
    # A further measurement at a measured count scatters by an unknown amount, where there are no repeats.
    assert (between[4].low, between[16].high) == (None, None)
    assert between[2].low < between[2].throughput < between[2].high


def test_the_interval_widens_with_distance_and_with_the_errors_of_the_curve():
    def widths(rates, counts):
        return [math.log(p.high / p.low) for p in fit_curve("", rates, predict=counts).predictions]

    smooth = exact("amdahl", 0.02)
    far = widths(smooth, (64, 128, 512, 4096))
    assert far == sorted(far)
    assert far[1] / far[0] == pytest.approx(math.sqrt(2))
    uneven = {ranks: [rate[0] * (1.1 if ranks in (4, 16) else 1)] for ranks, rate in smooth.items()}
    assert widths(uneven, (64,))[0] > 1.1 * far[0]


def test_the_scatter_of_repeats_is_part_of_the_interval():
    random = np.random.default_rng(5)
    rates = {
        ranks: list(rate[0] * np.exp(0.1 * random.standard_normal(3))) for ranks, rate in exact("log", 0.1).items()
    }
    (at_end,) = fit_curve("", rates, predict=(32,)).predictions
    assert 0.3 < math.log(at_end.high / at_end.low) < 0.7, "twice t(0.975, 12) · 0.1 · √(1 + 1/3)"


def test_a_public_series_that_breaks_down_is_within_the_interval():
    """Tokens/s of each GPU of a data-parallel model: at 256 the throughput falls by more than any law foresees."""
    per_gpu = {8: 40150, 16: 37610, 32: 35368, 64: 31112, 128: 26446, 256: 15700}
    for last in (64, 128):
        smaller = {ranks: [rate * ranks] for ranks, rate in per_gpu.items() if ranks <= last}
        (prediction,) = fit_curve("", smaller, predict=(256,)).predictions
        assert prediction.low <= 15700 * 256 <= prediction.throughput
