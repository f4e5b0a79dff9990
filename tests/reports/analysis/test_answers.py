from __future__ import annotations

import pytest

from bench.core.records import Condition
from bench.core.same_work import SameWork
from reports.analysis.answers import workload_answers
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import PredictOptions
from tests.support.builders import make_case, make_trial

SAME = SameWork(verdict="same", deviation=4e-7, tolerance=1e-3, label="float32")
STEADY = (0.999, 1.0, 1.001)


def cells_of(curves, repeats=STEADY, batch=8, **changes):
    """Cells of {backend: {ranks: step time in seconds}}; each repeat is a factor of the step time."""
    cases, trials = [], []
    for backend, steps in curves.items():
        for ranks, step_s in steps.items():
            transport = "none" if backend == "single" else "gloo"
            case = make_case(backend=backend, transport=transport, ranks=ranks, batch=batch)
            cases.append(case)
            trials += [
                make_trial(case, number, step_s * factor, same_work=SAME, **changes)
                for number, factor in enumerate(repeats)
            ]
    return make_cells(cases, {}, trials, {})


def answer_of(curves, **changes):
    (answer,) = workload_answers(analyse_cells(cells_of(curves, **changes)))
    return answer


def amdahl(serial, counts, step_s=0.1):
    return {ranks: step_s * (serial + (1 - serial) / ranks) for ranks in counts}


def test_the_fastest_backend_is_named_at_the_rank_count_of_its_peak():
    answer = answer_of({"ddp": {1: 0.1, 2: 0.06, 8: 0.2}, "horovod": {1: 0.1, 2: 0.09, 8: 0.15}})
    assert (answer.fastest, answer.fastest_ranks) == (("ddp/gloo",), (2,))
    assert (answer.peak.ranks, answer.peak.source, answer.peak.next_ranks) == (2, "measured", 8)
    assert answer.scaled == "ddp/gloo"


def test_a_single_device_that_beats_all_ranks_is_the_fastest_and_another_curve_is_what_scales():
    answer = answer_of({"single": {1: 0.01}, "ddp": {1: 0.1, 2: 0.06}})
    assert answer.fastest == ("single",)
    assert answer.scaled == "ddp/gloo"


def test_backends_within_each_others_noise_are_tied():
    noisy = (0.8, 1.0, 1.25)
    answer = answer_of({"ddp": {2: 0.06}, "horovod": {2: 0.061}}, repeats=noisy)
    assert answer.fastest == ("ddp/gloo", "horovod/gloo")
    assert answer.fastest_reason is None


def test_one_trial_ranks_nothing_and_is_not_trusted():
    answer = answer_of({"ddp": {2: 0.06}, "horovod": {2: 0.09}}, repeats=(1.0,))
    assert answer.fastest == ("ddp/gloo",)
    assert answer.fastest_reason == "one trial has no interval to compare"
    assert (answer.trust.word, answer.trust.reason) == ("low", "one trial: no interval")


def test_a_fastest_backend_of_several_trials_is_not_said_to_have_one():
    cells = [*cells_of({"ddp": {2: 0.06}}), *cells_of({"horovod": {2: 0.09}}, repeats=(1.0,))]
    (answer,) = workload_answers(analyse_cells(cells))
    assert answer.fastest_reason == "others have one trial, no interval to compare"


def test_efficiency_ends_between_two_measured_rank_counts():
    # Efficiencies 1, 0.91, 0.77, 0.59
    reached = answer_of({"ddp": amdahl(0.1, (1, 2, 4, 8))}).efficient_to
    assert (reached.ranks, reached.source, reached.next_ranks, reached.at_least) == (4, "measured", 8, False)
    assert reached.value.value == pytest.approx(0.77, abs=0.005)
    assert reached.next_value.value == pytest.approx(0.588, abs=0.005)


def test_where_the_measured_ranks_show_no_end_a_prediction_does():
    cells = cells_of({"ddp": amdahl(0.02, (1, 2, 4, 8))}, batch=64)
    (answer,) = workload_answers(analyse_cells(cells, PredictOptions(counts=(16, 32))))
    reached, peak = answer.efficient_to, answer.peak
    # Of a serial share of 2 % efficiency is 1 ÷ (1 + 0.02·15) = 77 % at 16 ranks, and 62 % at 32.
    assert (reached.ranks, reached.source) == (16, "predicted")
    assert reached.value.value == pytest.approx(0.77, abs=0.02)
    assert (reached.next_ranks, reached.next_source) == (32, "predicted")
    assert reached.ranks_text == "16 ranks (predicted)"
    assert (peak.ranks, peak.at_least, peak.reason) == (32, True, "beyond 32 ranks nothing was measured or predicted")


def test_a_batch_that_is_used_up_is_why_nothing_is_predicted():
    reached = answer_of({"ddp": amdahl(0.02, (1, 2, 4, 8))}, batch=8).efficient_to
    assert (reached.ranks, reached.at_least) == (8, True)
    assert reached.reason == "beyond 8 ranks a batch of 8 can't be split"


def test_without_a_prediction_the_answer_is_at_least_what_was_measured():
    answer = answer_of({"ddp": {1: 0.1, 2: 0.051}})
    for reached in (answer.efficient_to, answer.peak):
        assert (reached.ranks, reached.at_least) == (2, True)
        assert reached.reason == "beyond 2 ranks nothing was measured or predicted"
    assert answer.efficient_to.ranks_text == "≥ 2 ranks"


def test_a_bar_inside_of_an_interval_is_said():
    reached = answer_of({"ddp": {1: 0.1, 2: 0.068}}, repeats=(0.9, 1.0, 1.1)).efficient_to
    assert reached.ranks == 1
    assert reached.reason == "the interval at 2 ranks includes 75 %"


def test_one_rank_count_says_nothing_of_scaling():
    answer = answer_of({"ddp": {2: 0.06}, "horovod": {2: 0.09}})
    assert answer.efficient_to.ranks is None
    assert answer.efficient_to.reason == answer.cause_reason == "one rank count was measured"
    assert answer.scaled is None


def test_nothing_measured_is_an_answer_with_reasons():
    case = make_case()
    (answer,) = workload_answers(analyse_cells(make_cells([case], {case.key: "torch is not installed"}, [], {})))
    assert answer.fastest == ()
    assert answer.fastest_reason == "no cell has a number"
    assert answer.trust.word == "none"
    (row,) = answer.efficiency
    assert row.at(2).reason == "skipped: torch is not installed"


def test_the_efficiency_table_has_a_row_a_curve_and_a_reason_for_what_is_missing():
    cases = [make_case(ranks=ranks) for ranks in (1, 2, 4)]
    trials = [make_trial(case, number, 0.1 / case.ranks) for case in cases[:2] for number in range(3)]
    trials.append(make_trial(cases[2], outcome="failed", reason="rank 3 ended"))
    (answer,) = workload_answers(analyse_cells(make_cells(cases, {}, trials, {})))
    assert answer.rank_counts == (1, 2, 4)
    one, two, four = answer.efficiency[0].values
    assert one.is_baseline
    assert (two.is_baseline, two.efficiency.value) == (False, pytest.approx(1.0))
    assert (four.efficiency, four.reason) == (None, "failed: 1 of 1 trials: rank 3 ended")


def test_a_noisy_host_limits_trust_and_steady_trials_do_not():
    condition = Condition(name="host_load", seen="here: other processes kept 1.00 of 2 cores busy")
    noisy = answer_of({"ddp": {1: 0.1, 2: 0.06}}, conditions=(condition,))
    assert noisy.trust.word == "limited"
    assert noisy.trust.reason.startswith("noisy host")
    assert noisy.trust.remedy == "free the cores, or measure later"
    steady = answer_of({"ddp": {1: 0.1, 2: 0.06}})
    assert (steady.trust.word, steady.trust.remedy) == ("high", "")
    assert steady.trust.reason == "same work, 3 trials a cell, intervals within ± 0.5 %"


def test_ranks_that_share_cores_are_the_fastest_only_where_nothing_else_is_and_then_not_trusted():
    cases = [make_case(ranks=2), make_case(ranks=4, flags=("oversubscribed",))]
    trials = [make_trial(case, number, 0.1 / case.ranks * (1 + number / 1000)) for case in cases for number in range(3)]
    (fair,) = workload_answers(analyse_cells(make_cells(cases, {}, trials, {})))
    assert fair.fastest_ranks == (2,)
    (shared,) = workload_answers(analyse_cells(make_cells(cases[1:], {}, trials, {})))
    assert shared.fastest_ranks == (4,)
    assert (shared.trust.word, shared.trust.reason) == ("low", "ranks have more threads than there are cores")
