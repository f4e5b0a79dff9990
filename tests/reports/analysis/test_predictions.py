"""α and β are recovered, steps follow from their parts, and the intervals of predictions widen with distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.core.gradients import GradientBuckets, Gradients
from bench.core.step_measures import MessageTiming, PhaseTimes
from reports.analysis import formatting
from reports.analysis.cells import make_cells
from reports.analysis.communication import (
    AllreduceTiming,
    CannotFitAllreduce,
    bus_bandwidth,
    fastest_allreduce_time,
    fit_allreduce,
    time_s,
)
from reports.analysis.communication_paths import LinkSpec, communication_paths
from reports.analysis.comparison import labelled
from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import PredictOptions
from reports.analysis.step_model import STEP_PARTS, OwnTimes, fit_own_times, predict_step
from reports.analysis.step_prediction import CommunicationCost, Observed, fit_step_model, modelled_steps
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import figures_of, page_of

SIZES = tuple(1024 * 4**power for power in range(8))
DDP = GradientBuckets(first_bytes=2**20, most_bytes=25 * 2**20, laid_out=True)
HOROVOD = GradientBuckets(first_bytes=2**27, most_bytes=2**27, laid_out=False)
OWN = OwnTimes(data_s=0.001, forward_s=0.010, backward_s=0.020, optimizer_s=0.002)


def timings(algorithm, alpha, beta, counts=(2, 4, 8), noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    return [
        AllreduceTiming(
            ranks, size, time_s(algorithm, ranks, size, alpha, beta) * math.exp(noise * random.standard_normal())
        )
        for ranks in counts
        for size in SIZES
    ]


@pytest.mark.parametrize(("algorithm", "alpha", "beta"), [("ring", 2e-4, 8e-9), ("tree", 5e-6, 1e-10)])
def test_alpha_and_beta_are_recovered(algorithm, alpha, beta):
    found = fit_allreduce(timings(algorithm, alpha, beta))
    assert found.algorithm == algorithm
    assert found.latency_s.value == pytest.approx(alpha, rel=1e-6)
    assert found.byte_s.value == pytest.approx(beta, rel=1e-6)
    assert found.time_s(16, 10**8) == pytest.approx(time_s(algorithm, 16, 10**8, alpha, beta), rel=1e-6)


@pytest.mark.parametrize(
    ("seeds", "fewest"),
    # Of 40 seeds, the lower 99.9 % bound of a binomial at 95 %.
    [(40, 33), pytest.param(1000, 930, marks=pytest.mark.slow)],
)
def test_the_intervals_of_alpha_and_beta_cover(seeds, fewest):
    held = np.zeros(2)
    for seed in range(seeds):
        found = fit_allreduce(timings("ring", 1e-4, 1e-9, noise=0.05, seed=seed))
        held += [one.low <= true <= one.high for one, true in ((found.latency_s, 1e-4), (found.byte_s, 1e-9))]
    assert (held >= fewest).all(), held


def test_the_formulas_are_those_of_ring_and_tree():
    assert time_s("ring", 4, 1000, 2.0, 3.0) == 2 * 3 * 2.0 + 2 * 3 / 4 * 1000 * 3.0
    assert time_s("tree", 5, 1000, 2.0, 3.0) == 2 * 3 * (2.0 + 1000 * 3.0)
    assert time_s("ring", 1, 1000, 2.0, 3.0) == 0
    assert bus_bandwidth(AllreduceTiming(4, 1000, 0.5)) == 1000 / 0.5 * 2 * 3 / 4
    # Many ranks and a small message: a tree; a large one: a ring.
    fastest = fastest_allreduce_time(5e-6, 1e-10)
    assert fastest(1024, 8) == time_s("tree", 1024, 8, 5e-6, 1e-10)
    assert fastest(1024, 10**9) == time_s("ring", 1024, 10**9, 5e-6, 1e-10)


def test_too_few_sizes_are_refused():
    with pytest.raises(CannotFitAllreduce, match="3 message sizes, there are 2"):
        fit_allreduce([AllreduceTiming(2, 1024, 0.1), AllreduceTiming(2, 4096, 0.1), AllreduceTiming(1, 1, 0.1)])


def test_one_bucket_travels_after_the_backward_pass():
    whole = Gradients(tensor_bytes=(1000,), grouping=DDP)
    assert predict_step(OWN, whole, lambda size: size * 1e-4) == pytest.approx(OWN.total_s + 0.1)


def test_hidden_communication_costs_nothing():
    # Two halves: the first travels while the second is computed; only the second is exposed.
    halves = Gradients(tensor_bytes=(2**20, 2**20), grouping=DDP.model_copy(update={"most_bytes": 2**20}))
    assert predict_step(OWN, halves, lambda size: 0.008) == pytest.approx(OWN.total_s + 0.008)
    late = halves.model_copy(update={"grouping": halves.grouping.model_copy(update={"overlaps": False})})
    assert predict_step(OWN, late, lambda size: 0.008) == pytest.approx(OWN.total_s + 0.016)


def test_horovod_sends_ready_gradients_and_ddp_fixed_buckets():
    sizes = (4096,) * 4
    messages = []
    predict_step(OWN, Gradients(tensor_bytes=sizes, grouping=HOROVOD), lambda size: messages.append(size) or 0.012)
    # The first alone; the two that came meanwhile; the last.
    assert messages == [4096, 8192, 4096]
    messages.clear()
    predict_step(OWN, Gradients(tensor_bytes=sizes, grouping=DDP), lambda size: messages.append(size) or 0.012)
    assert messages == [4 * 4096]


def test_what_is_hidden_slows_the_compute_it_shares_a_core_with():
    halves = Gradients(tensor_bytes=(2**20, 2**20), grouping=DDP.model_copy(update={"most_bytes": 2**20}))
    free = predict_step(OWN, halves, lambda size: 0.008)
    # 8 of 16 ms are hidden; an exchange that is always ready gets half of the core.
    assert predict_step(OWN, halves, lambda size: 0.008, core_share=1.0) == pytest.approx(free + 0.004)
    assert predict_step(OWN, halves, lambda size: 0.008, core_share=0.25) == pytest.approx(free + 0.0016)


def test_what_a_backend_does_on_one_rank_is_done_on_many():
    handled = OWN.model_copy(update={"handling_s": 0.003})
    whole = Gradients(tensor_bytes=(1000,), grouping=DDP)
    assert predict_step(handled, whole, lambda size: 0.1) == pytest.approx(OWN.total_s + 0.103)


def test_float16_halves_what_travels():
    half = Gradients(tensor_bytes=(1000,), grouping=HOROVOD.model_copy(update={"share": 0.5}))
    assert predict_step(OWN, half, lambda size: size * 1e-4) == pytest.approx(OWN.total_s + 0.05)


def parts(forward_s, fixed_s=0.0, share=1.0):
    forward = fixed_s + share * forward_s
    backward = 2 * share * forward_s
    return {
        "data": 0.0,
        "forward": forward,
        "backward": backward,
        "optimizer": fixed_s,
        "waiting": 0.0,
        "handling": 0.0,
    }


def test_fixed_and_proportional_work_are_separated():
    model = fit_own_times({1 / ranks: parts(0.08, 0.003, 1 / ranks) for ranks in (1, 2, 4)}, waiting_s=0.001)
    own = model.at(1 / 8, alone=False)
    assert own.forward_s == pytest.approx(0.003 + 0.01)
    assert own.optimizer_s == pytest.approx(0.003)
    assert own.waiting_s == 0.001
    assert model.at(1.0, alone=True).waiting_s == 0


def observed(counts, gradients, exchange, off=0.0, spread=0.001):
    found = []
    for ranks in counts:
        own = OwnTimes(**{f"{name}_s": value for name, value in parts(0.08, 0.002, 1 / ranks).items()})
        step = (
            own.total_s if ranks == 1 else predict_step(own, gradients, lambda size, n=ranks: exchange.time_s(n, size))
        )
        rates = tuple(128 / (step * (1 + off * (ranks > 1))) * (1 + spread * sign) for sign in (-1, 0, 1))
        found.append(Observed(ranks=ranks, rates=rates, parts_s=parts(0.08, 0.002, 1 / ranks)))
    return found


def test_a_step_that_follows_the_model_is_predicted():
    gradients = Gradients(tensor_bytes=(10**6,) * 4, grouping=DDP)
    exchange = CommunicationCost(fit_allreduce(timings("ring", 1e-4, 8e-9)).time_s)
    model = fit_step_model(observed((1, 2, 4), gradients, exchange), "strong", 128, gradients, exchange)
    (true,) = observed((16,), gradients, exchange)
    found = model.predict(16, exchange)
    assert found.throughput == pytest.approx(true.rates[1], rel=1e-6)
    assert found.extrapolated
    assert found.low < found.throughput < found.high
    for one in modelled_steps(observed((2, 4), gradients, exchange), "strong", 128, gradients, exchange):
        assert one.error == pytest.approx(0, abs=1e-5)
        assert one.exposed_s > 0


def test_the_interval_widens_with_distance_and_with_misfit():
    gradients = Gradients(tensor_bytes=(10**6,) * 4, grouping=DDP)
    exchange = CommunicationCost(fit_allreduce(timings("ring", 1e-4, 8e-9)).time_s)
    near = fit_step_model(observed((1, 2, 4), gradients, exchange, off=0.05), "strong", 128, gradients, exchange)
    assert near.misfit == pytest.approx(math.log(1.05), rel=1e-3)
    widths = [math.log((found := near.predict(ranks, exchange)).high / found.low) for ranks in (4, 8, 64)]
    assert widths == sorted(widths)
    good = fit_step_model(observed((1, 2, 4), gradients, exchange), "strong", 128, gradients, exchange)
    found = good.predict(8, exchange)
    assert math.log(found.high / found.low) < widths[1] / 4


ALPHA, BETA = 2e-4, 8e-9
TENSORS = Gradients(tensor_bytes=(800_000,) * 4, grouping=DDP)


def a_sweep(counts=(1, 2, 4, 8), batch=128, slowed=None):
    """Cells that follow the step model exactly, and the allreduces that tell α and β.

    ``slowed``: factors of the step's time, by rank count.
    """
    cases, trials = [], []
    for ranks in counts:
        case = make_case(ranks=ranks, batch=batch)
        own = {name: parts(0.08, 0.002, 1 / ranks)[name] for name in STEP_PARTS}
        times = OwnTimes(**{f"{name}_s": value for name, value in own.items()})
        step_s = times.total_s
        if ranks > 1:
            step_s = predict_step(times, TENSORS, lambda size, n=ranks: time_s("ring", n, size, ALPHA, BETA))
        step_s *= (slowed or {}).get(ranks, 1)
        phases = PhaseTimes(together_s=(step_s,), alone_s={name: (value,) for name, value in own.items()}, digest="")
        cases.append(case)
        for number, factor in enumerate((0.999, 1.0, 1.001)):
            records = tuple(
                make_record(
                    rank, ranks, (step_s * factor,) * 2, amount_per_step=batch, phases=phases, gradients=TENSORS
                )
                for rank in range(ranks)
            )
            trials.append(make_trial(case, number, ranks=records))
        if ranks > 1:
            alone = make_case(workload="allreduce", ranks=ranks, scaling="weak", batch=1)
            messages = tuple(
                MessageTiming(message_bytes=size, times_s=(time_s("ring", ranks, size, ALPHA, BETA),)) for size in SIZES
            )
            cases.append(alone)
            records = tuple(
                make_record(rank, ranks, kind="collective", unit="bytes", messages=messages) for rank in range(ranks)
            )
            trials.append(make_trial(alone, ranks=records))
    return make_cells(cases, {}, trials, {})


def test_a_sweep_gives_alpha_beta_and_predictions():
    cells = a_sweep()
    (exchange,) = communication_paths(cells).values()
    assert list(exchange.places) == ["inside"]
    assert exchange.model("inside").latency_s.value == pytest.approx(ALPHA, rel=1e-6)
    assert exchange.rank_counts("inside") == (2, 4, 8)
    (forecast,) = analyse_cells(cells).curve_predictions
    assert forecast.kind == "step"
    assert [one.prediction.ranks for one in forecast.predictions] == [16, 32, 64]
    assert all(one.efficiency.low < one.efficiency.value < one.efficiency.high for one in forecast.predictions)
    step, law = forecast.backtests
    assert (step.kind, step.smaller, step.prediction.ranks) == ("step", (1, 2, 4), 8)
    assert step.error == pytest.approx(0, abs=1e-3)
    assert step.held
    # A plain curve does not know that the exchange stops growing.
    assert law.kind == "law"
    assert abs(law.error) > abs(step.error)


def test_the_back_test_excludes_the_predicted_measurement():
    honest = analyse_cells(a_sweep()).curve_predictions[0].backtests[0].prediction
    seen = a_sweep((1, 2, 4))
    predicted = analyse_cells(seen, PredictOptions((8,))).curve_predictions[0].predictions[0].prediction
    assert honest.throughput == pytest.approx(predicted.throughput, rel=1e-9)
    assert (honest.low, honest.high) == pytest.approx((predicted.low, predicted.high), rel=1e-9)


def test_a_hypothetical_link_is_predicted_up_to_thousands_of_ranks():
    cells = a_sweep(batch=1024)
    link = LinkSpec(label="100Gbit,5us", bytes_s=12.5e9, latency_s=5e-6)
    (forecast,) = analyse_cells(cells, PredictOptions(link=link)).curve_predictions
    # A batch of 1024 can't be cut into more pieces.
    assert [one.prediction.ranks for one in forecast.at_scale] == [8, 64, 512]
    here = next(cell for cell in cells if cell.case.ranks == 8 and cell.throughput)
    assert forecast.at_scale[0].prediction.throughput > here.throughput.value


def test_without_an_allreduce_a_scaling_law_predicts():
    cells = [cell for cell in a_sweep() if not cell.messages]
    (forecast,) = analyse_cells(cells).curve_predictions
    assert forecast.kind == "law"
    assert forecast.reason == "no allreduce was measured under ddp/gloo"
    two = [cell for cell in cells if cell.case.ranks < 4]
    (forecast,) = analyse_cells(two).curve_predictions
    assert forecast.kind is None
    assert forecast.reason.endswith("a scaling law needs 3 rank counts")


def test_a_step_model_that_misses_one_rank_count_predicts_nothing():
    """Of three rank counts two fit, so that the mean error of all is below a fifth."""
    (forecast,) = analyse_cells(a_sweep(slowed={8: 1.4})).curve_predictions
    assert forecast.misfit < 0.2
    assert forecast.kind == "law"
    assert forecast.reason == "the step model's throughput is off by +40 % at 8 ranks"
    assert math.fsum(forecast.weights.values()) == pytest.approx(1)
    assert set(forecast.model.split(" + ")) == set(forecast.weights)


def test_where_nothing_describes_a_curve_nothing_is_predicted():
    cells = [cell for cell in a_sweep(slowed={8: 4}) if not cell.messages]
    findings = analyse_cells(cells)
    (forecast,) = findings.curve_predictions
    assert (forecast.kind, forecast.model, forecast.predictions) == (None, "none", ())
    assert "no scaling law is within 20 % of the curve" in forecast.reason
    (curve,) = findings.curves.values()
    assert (curve.model, "no_law" in curve.fit_flags) == (None, True)
    rows = page_of(cells).table("Predicted throughput").rows
    assert [row[1] for row in rows] == ["none"]


def test_rank_counts_above_the_batch_are_listed():
    (forecast,) = analyse_cells(a_sweep(batch=16), PredictOptions((8, 1024))).curve_predictions
    assert forecast.impossible == (1024,)
    page = page_of(a_sweep(batch=16), PredictOptions((8, 1024)))
    rows = [row for row in page.table("Predicted throughput").rows if row[2] == "1024"]
    assert rows[0][-1] == "a batch of 16 can't be split over 1,024 ranks"


def test_a_hypothetical_link_without_measured_exchange_has_no_interval():
    cells = [cell for cell in a_sweep(batch=1024) if not cell.messages]
    (forecast,) = analyse_cells(
        cells, PredictOptions(link=LinkSpec(label="x", bytes_s=12.5e9, latency_s=5e-6))
    ).curve_predictions
    assert len(forecast.at_scale) == 3
    assert all(one.prediction.low is None for one in forecast.at_scale)
    page = make_page(
        "t", analyse_cells(cells, PredictOptions(link=LinkSpec(label="x", bytes_s=12.5e9, latency_s=5e-6))), [], []
    )
    assert "Predictions, not measurements" in page.table("Predicted over x").note


def test_the_exchanges_of_two_sweeps_are_separate():
    both = [*labelled(a_sweep(), "A"), *labelled(a_sweep(), "B")]
    assert [found.case.label for found in communication_paths(both).values()] == ["A", "B"]


def test_losses_add_up_in_their_figure():
    figures = figures_of(page_of(a_sweep()))
    figure = next(figure for figure in figures if figure.title == "Where the efficiency goes")
    for place, row in enumerate(figure.table.rows):
        assert sum(series.y[place] for series in figure.series) == pytest.approx(float(row[-1][:-2]) / 100, abs=1e-3)


def test_a_bandwidth_too_high_to_measure_is_reported_as_such():
    found = fit_allreduce([AllreduceTiming(2, size, 1e-3 * (1 - 1e-9 * size)) for size in SIZES])
    assert found.byte_s.low is None
    assert "too high to measure" in formatting.bandwidth(found.byte_s)
