"""Closed forms are recovered, intervals cover, traps are named and clean curves are not accused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from reports.analysis.curve import fit_curve
from reports.analysis.law_selection import describing_laws, shown_law
from reports.analysis.laws import denominator, time_parts
from reports.analysis.scaling import CannotFit, fit

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def exact(gamma, sigma, kappa, counts=COUNTS):
    return {ranks: [gamma * ranks / denominator(ranks, sigma, kappa)] for ranks in counts}


def points(rates):
    return [(ranks, rate) for ranks, repeats in rates.items() for rate in repeats]


def noisy(seed, gamma=1000.0, sigma=0.03, kappa=0.0005, counts=COUNTS, repeats=5, noise=0.02):
    random = np.random.default_rng(seed)
    return {
        ranks: list(rates[0] * np.exp(noise * random.standard_normal(repeats)))
        for ranks, rates in exact(gamma, sigma, kappa, counts).items()
    }


@pytest.mark.parametrize("method", ["log", "nls"])
@pytest.mark.parametrize(
    ("gamma", "sigma", "kappa"),
    [
        (1000.0, 0.03, 0.0005),  # its peak, 44, lies in the range
        (2.5e9, 0.02, 1e-5),  # its peak, 313, does not
        (0.004, 0.3, 0.01),  # retrograde
        (70.0, 0.1, 0.0),  # Amdahl
        (12.0, 0.0, 0.0),  # linear
        (12.0, 0.0, 0.002),  # no contention
    ],
)
def test_closed_forms_are_recovered(gamma, sigma, kappa, method):
    found = fit(points(exact(gamma, sigma, kappa)), "usl", method)
    assert found.gamma.value == pytest.approx(gamma, rel=1e-6)
    assert found.sigma.value == pytest.approx(sigma, abs=1e-6)
    assert found.kappa.value == pytest.approx(kappa, abs=1e-6)
    assert found.predict(1024).throughput == pytest.approx(gamma * 1024 / denominator(1024, sigma, kappa), rel=1e-3)


def test_the_simplest_sufficient_law_is_selected():
    assert shown_law(exact(10, 0.05, 0.001)).model == "usl"
    assert shown_law(exact(10, 0.05, 0.0)).model == "amdahl"
    assert shown_law(exact(10, 0.0, 0.0)).model == "linear"


@pytest.mark.parametrize("method", ["log", "nls"])
@pytest.mark.parametrize(("sigma", "kappa"), [(0.0, 0.0), (0.002, 0.0), (0.0, 1e-4), (0.9, 0.0)])
def test_no_better_fit_lies_within_the_bounds(sigma, kappa, method):
    """Noise pushes the unbounded minimum beyond 0 or 1; the trust region of SciPy looks within the bounds alone."""
    at_bounds = 0
    for seed in range(8):
        rates = points(noisy(seed, sigma=sigma, kappa=kappa, counts=(1, 2, 3, 4), noise=0.1))
        found = fit(rates, "usl", method)
        ranks, measured = (np.array(column, dtype=float) for column in zip(*rates, strict=True))

        def residuals(params, ranks=ranks, measured=measured):
            modelled = params[0] * ranks / (1 + params[1] * (ranks - 1) + params[2] * ranks * (ranks - 1))
            return np.log(measured / modelled) if method == "log" else (measured - modelled) / 1000

        bounds = ([0, 0, 0], [np.inf, 1, 1])
        best = least_squares(
            residuals, [1000.0, 0.01, 0.001], bounds=bounds, x_scale=[1000, 1, 1], xtol=1e-12, ftol=1e-12
        )
        squares = residuals([found.gamma.value, found.sigma.value, found.kappa.value])
        assert squares @ squares <= 2 * best.cost * (1 + 1e-6)
        at_bounds += bool(found.at_bound)
    assert at_bounds, "or the bounds were not tried"


def test_the_law_that_is_shown_is_the_richest_of_those_that_describe_the_curve():
    for seed in range(20):
        rates = noisy(seed, sigma=0.1 * (seed % 3), kappa=0.001 * (seed % 2), noise=0.05)
        laws = describing_laws(rates)
        richest = next(
            (law for law, last in (("usl", "kappa"), ("amdahl", "sigma")) if _is_significant(laws, law, last)), "linear"
        )
        assert shown_law(rates).model == richest
        assert shown_law(rates).sigma == laws[richest].sigma


def _is_significant(laws, law, last):
    return law in laws and getattr(laws[law], last).low > 0


def test_peak_and_limit():
    found = fit(points(exact(1000.0, 0.03, 0.0005)))
    assert found.peak_ranks == pytest.approx(math.sqrt(0.97 / 0.0005))
    assert found.limit == pytest.approx(1000 / 0.03)
    assert fit(points(exact(10, 0.05, 0.0))).peak_ranks is None
    assert shown_law(exact(10, 0.0, 0.0)).limit is None
    tree = fit([(ranks, 10 * ranks / (1 + 0.1 * math.log2(ranks))) for ranks in COUNTS], "log")
    assert (tree.sigma.value, tree.limit) == (pytest.approx(0.1), None)
    assert tree.predict(1024).throughput == pytest.approx(10 * 1024 / 2)


def test_too_few_rank_counts_are_refused():
    with pytest.raises(CannotFit, match="usl needs 4 different rank counts, there are 3"):
        fit([(1, 1.0), (2, 1.9), (4, 3.5), (4, 3.6)])
    assert shown_law({1: [1.0], 2: [1.9], 4: [3.5, 3.6]}).model in ("amdahl", "linear")
    with pytest.raises(CannotFit, match="a scaling law needs 3 rank counts, there are 2"):
        describing_laws({1: [1.0], 2: [1.9, 1.91]})
    with pytest.raises(ValueError, match="positive and finite"):
        fit([(1, 1.0), (2, float("nan"))], "linear")


def test_order_and_repeats_do_not_matter():
    rates = noisy(3)
    one = fit(points(rates))
    other = fit(list(reversed(points(rates))))
    assert other.sigma.value == pytest.approx(one.sigma.value, rel=1e-9)


@given(st.integers(1, 4096), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["usl", "log"]))
def test_the_parts_of_the_time_add_up(ranks, sigma, kappa, law):
    parts = time_parts(ranks, sigma, kappa, law)
    whole = denominator(ranks, sigma, kappa, law) / ranks
    assert math.fsum(parts.values()) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("seeds", "fewest", "most"),
    # Of 40 seeds, the 99.9 % range of a binomial at 95 %.
    [(40, 33, 40), pytest.param(1000, 930, 970, marks=pytest.mark.slow)],
)
def test_95_percent_intervals_cover(seeds, fewest, most):
    """Over seeded curves with 2 % noise: the parameters, and one further measurement."""
    truth = {"gamma": 1000.0, "sigma": 0.03, "kappa": 0.0005}
    held = dict.fromkeys((*truth, "prediction"), 0)
    for seed in range(seeds):
        found = fit(points(noisy(seed)))
        for name, value in truth.items():
            parameter = getattr(found, name)
            held[name] += parameter.low <= value <= parameter.high
        new = noisy(seed + 10**6, counts=(128,), repeats=1)[128][0]
        prediction = found.predict(128)
        held["prediction"] += prediction.low <= new <= prediction.high
    assert all(fewest <= count <= most for count in held.values()), held


@pytest.mark.parametrize("seeds", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_clean_curves_are_not_flagged(seeds):
    flags = {seed: curve.fit_flags for seed in range(seeds) if (curve := fit_curve("", noisy(seed), "usl")).fit_flags}
    assert flags == {}


def test_a_prediction_widens_with_distance():
    found = fit(points(noisy(1)))
    widths = [math.log(one.high / one.low) for one in map(found.predict, (64, 128, 512, 2048))]
    assert widths == sorted(widths)
    assert [one.extrapolated for one in map(found.predict, (64, 128))] == [False, True]


def changed(rates, **factors):
    return {ranks: [rate * factors.get(f"at{ranks}", 1.0) for rate in repeats] for ranks, repeats in rates.items()}


@pytest.mark.parametrize(
    ("rates", "flag"),
    [
        (changed(noisy(1, sigma=0.0, kappa=0.0), at2=1.3, at4=1.3, at8=1.3), "superlinear"),
        ({ranks: [1000.0 * min(ranks, 6)] for ranks in (1, 2, 3, 4, 5, 6, 8, 12, 16, 24)}, "misfit"),
        (noisy(1, sigma=0.1, kappa=0.02), "retrograde"),
        (noisy(1, sigma=0.05, kappa=0.0, noise=0.0), "at_bound"),
        (changed(noisy(1), at8=0.6), "outlier"),
        (noisy(1, counts=(2, 4, 8, 16, 32, 64)), "no_baseline"),
        (noisy(1, kappa=1e-4), "extrapolated_peak"),
        (noisy(1, counts=(1, 2, 4, 8), kappa=0.01), "few_points"),
        (noisy(1, counts=(1, 2, 4)), "too_few_points"),
    ],
)
def test_misleading_fits_are_flagged(rates, flag):
    found = fit_curve("trapped", rates, "usl")
    assert flag in found.fit_flags, found.fit_flags
    assert found.fit_flags[flag]
    if flag == "too_few_points":
        assert found.model is None
        assert found.reason == "usl needs 4 different rank counts, there are 3"
        assert found.points[1].efficiency.value == pytest.approx(1 / 1.031, rel=0.05), "what was measured is there"


def test_a_falling_curve_has_no_peak_and_is_flagged():
    """X = c ÷ N, as over a slow link: σ ends at 1, or the root of (1−σ) ÷ κ lies below one rank."""
    for seed in range(40):
        random = np.random.default_rng(seed)
        rates = {ranks: list(100 / ranks * np.exp(0.05 * random.standard_normal(3))) for ranks in (1, 2, 4, 8)}
        curve = fit_curve("falling", rates, predict=(16, 1024))
        assert curve.peak_ranks is None
        assert "retrograde" in curve.fit_flags
        assert all(one.low is None or one.low <= one.throughput <= one.high for one in curve.predictions)


def test_an_interval_wider_than_the_limit_is_unknown():
    random = np.random.default_rng(1)
    rates = {ranks: [ranks * float(np.exp(random.standard_normal()))] for ranks in (1, 2, 4, 8)}
    found = fit(points(rates), "usl").predict(1024)
    assert (found.low, found.high) == (None, None)


def test_the_interval_of_a_named_law_assumes_that_it_holds():
    rates = {ranks: [10.0 * ranks * factor for factor in (0.99, 1.0, 1.01)] for ranks in (1, 2, 4)}
    named = fit_curve("a", rates, "linear", predict=(4, 64)).predictions
    assert math.log(named[1].high / named[1].low) == pytest.approx(math.log(named[0].high / named[0].low))
