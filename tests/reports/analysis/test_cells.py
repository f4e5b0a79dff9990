from __future__ import annotations

import pytest

from bench.core.case import DataSource, Fault
from bench.core.records import Condition, Reading
from bench.core.same_work import SameWork
from bench.core.step_measures import MessageTiming
from reports.analysis.cells import make_cells
from reports.analysis.findings import curves_of
from tests.support.builders import make_case, make_record, make_trial


def cells(cases, trials, skipped=None, machinery=None):
    return make_cells(cases, skipped or {}, trials, machinery or {})


def test_speedup_and_efficiency_start_from_one_rank():
    one, two = make_case(ranks=1), make_case(ranks=2)
    trials = [make_trial(one, number, 0.1) for number in range(3)] + [
        make_trial(two, number, 0.0625) for number in range(3)
    ]
    first, second = cells([one, two], trials)
    assert (first.speedup.value, first.efficiency.value) == (1.0, 1.0)
    assert second.speedup.value == pytest.approx(1.6)
    assert second.efficiency.value == pytest.approx(0.8)
    assert second.flags == ()


def test_without_one_rank_the_smallest_count_is_the_baseline():
    two, four = make_case(ranks=2), make_case(ranks=4)
    trials = [make_trial(two, step_s=0.1), make_trial(four, step_s=0.1)]
    first, second = cells([two, four], trials)
    assert (first.speedup.value, first.efficiency.value) == (2.0, 1.0)
    assert (second.speedup.value, second.efficiency.value) == (pytest.approx(2.0), pytest.approx(0.5))
    assert "no_baseline" in first.flags
    assert "no_baseline" in second.flags


@pytest.mark.parametrize("flag", ["oversubscribed", "shared_gpu"])
def test_a_cell_whose_ranks_share_hardware_has_a_throughput_and_no_claim(flag):
    one, four = make_case(ranks=1), make_case(ranks=4, flags=(flag,))
    found = cells([one, four], [make_trial(one), make_trial(four)])[1]
    assert found.throughput is not None
    assert found.efficiency is None
    assert found.scaling_reason == f"{flag.replace('_', ' ')}: feeds no scaling claim"
    assert not found.feeds_a_curve
    # Nor is it what others are compared with.
    shared, more = make_case(ranks=2, flags=(flag,)), make_case(ranks=4)
    found = cells([shared, more], [make_trial(shared), make_trial(more)])[1]
    assert found.speedup.value == 4.0


@pytest.mark.parametrize(
    ("flag", "note"), [("oversubscribed", "have more threads than there are cores"), ("shared_gpu", "share GPUs")]
)
def test_what_feeds_no_claim_is_named_beside_the_curve(flag, note):
    cases = [make_case(ranks=ranks, flags=(flag,) if ranks == 8 else ()) for ranks in (1, 2, 4, 8)]
    (curve,) = curves_of(cells(cases, [make_trial(case) for case in cases])).values()
    assert curve.fit_flags[flag] == f"left out: 8 ranks {note}"
    assert 8 not in [point[0] for point in curve.fitted]


def test_ranks_that_turn_out_to_be_on_one_gpu_are_marked():
    case = make_case(ranks=2, device="cuda", transport="gloo")
    trial = make_trial(case)

    def flags(*gpus):
        records = [rank.model_copy(update={"gpu": gpu}) for rank, gpu in zip(trial.ranks, gpus, strict=True)]
        (cell,) = cells([case], [trial.model_copy(update={"ranks": tuple(records)})])
        return cell.flags

    assert "shared_gpu" in flags("GPU-1", "GPU-1")
    assert "shared_gpu" not in flags("GPU-1", "GPU-2")
    assert "shared_gpu" not in flags(None, None)


def test_one_invalid_trial_removes_the_number():
    case = make_case(ranks=1)
    bad = make_trial(
        case,
        1,
        outcome="invalid",
        reason="not the same work: …",
        same_work=SameWork(verdict="different", deviation=1.0, tolerance=1e-3),
    )
    found = cells([case], [make_trial(case, 0), bad])[0]
    assert (found.outcome, found.throughput) == ("invalid", None)
    assert found.same_work.verdict == "different"
    assert "1 of 2 trials: not the same work" in found.reason


def other_work(trial):
    proof = SameWork(verdict="different", deviation=1.0, tolerance=1e-3, reason="…")
    return trial.model_copy(update={"outcome": "invalid", "same_work": proof})


def test_a_contaminated_trial_is_left_out_and_counted():
    case = make_case()
    hot = Condition(name="gpu_thermal_throttling", seen="hot", serious=True)
    bad = make_trial(case, 1, step_s=10.0, outcome="invalid", reason="contaminated: hot", conditions=(hot,))
    (found,) = cells([case], [make_trial(case), bad])
    assert (found.outcome, found.trials, found.contaminated) == ("ok", 1, 1)
    assert found.throughput.value == pytest.approx(80)
    assert "gpu_thermal_throttling" in found.flags
    (alone,) = cells([case], [bad])
    assert (alone.outcome, alone.throughput) == ("invalid", None)
    assert alone.reason == "1 of 1 trials: contaminated: hot"


def test_a_case_with_a_fault_is_never_a_baseline():
    one = make_case(ranks=1, fault=Fault(kind="slow", rank=0, ms=5), flags=("injected",))
    two = make_case(ranks=2)
    slow, fast = cells([one, two], [make_trial(one), make_trial(two)])
    assert one.key != make_case(ranks=1).key, "nor can it be taken for the case itself, ever"
    assert "no_baseline" in fast.flags
    assert "injected" in slow.flags
    assert fast.speedup.value == 2.0, "the smallest rank count stands in for itself"


def test_an_invalid_baseline_is_no_baseline():
    one, two = make_case(ranks=1), make_case(ranks=2)
    found = cells([one, two], [make_trial(one), other_work(make_trial(one, 1)), make_trial(two)])[1]
    assert "no_baseline" in found.flags


def test_a_failed_trial_shows_in_the_outcome_and_the_rest_in_the_number():
    case = make_case(ranks=1)
    failed = make_trial(case, 2, outcome="failed", reason="rank 0: boom", ranks=())
    found = cells([case], [make_trial(case, 0), make_trial(case, 1), failed])[0]
    assert (found.outcome, found.trials, found.throughput.n) == ("failed", 2, 2)
    assert "1 of 3 trials: rank 0: boom" in found.reason


def test_a_skipped_case_is_a_cell_with_its_reason():
    case = make_case()
    found = cells([case], [], skipped={case.key: "Horovod was not built"})[0]
    assert (found.outcome, found.reason, found.throughput) == ("skipped", "Horovod was not built", None)


def test_a_case_the_sweep_never_reached():
    assert cells([make_case()], [])[0].reason == "the sweep ended before its first trial"


def test_bus_bandwidth_is_the_algorithm_s_times_two_n_minus_one_over_n():
    case = make_case(workload="allreduce", ranks=4)
    records = tuple(
        make_record(
            rank,
            4,
            kind="collective",
            unit="bytes",
            amount_per_step=2**20,
            messages=(MessageTiming(message_bytes=2**20, times_s=(0.001, 0.002 + 0.001 * (rank == 3), 0.004)),),
        )
        for rank in range(4)
    )
    found = cells([case], [make_trial(case, ranks=records)])[0]
    message = found.messages[0]
    assert message.time_s.value == pytest.approx(0.003), "the median over repetitions of the slowest rank"
    assert message.algorithm_bandwidth.value == pytest.approx(2**20 / 0.003)
    assert message.bus_bandwidth.value == pytest.approx(1.5 * 2**20 / 0.003)
    assert found.efficiency is None
    assert "no speed-up" in found.scaling_reason


def test_flags_of_a_cell():
    source = DataSource(name="digits", digest="d", path="/d", stands_for="MNIST")
    case = make_case(ranks=1, data=source)
    unknown = Reading(name="test_accuracy", value=None, unit="%", reason="no labels")
    record = make_record(readings=(unknown, Reading(name="errors", value=0.0, unit="1")))
    found = cells([case], [make_trial(case, ranks=(record,))], machinery={case.key: "another way"})[0]
    assert set(found.flags) == {"stand_in_data", "other_machinery", "few_trials"}
    assert found.readings[0].estimate is None
    assert found.readings[0].reason == "no labels"
    assert found.readings[1].estimate.value == 0


def test_cells_below_the_precision_are_flagged():
    case = make_case(ranks=1)
    trials = [make_trial(case, number, step_s) for number, step_s in enumerate((0.1, 0.12, 0.11))]
    assert "imprecise" in make_cells([case], {}, trials, {}, precision=0.01)[0].flags
    assert "imprecise" not in make_cells([case], {}, trials, {}, precision=0.9)[0].flags
    assert "imprecise" not in make_cells([case], {}, trials, {})[0].flags


def test_step_time_is_the_median_of_the_slowest_rank_s_steps():
    case = make_case(ranks=1)
    record = make_record(step_s=(0.1, 0.2, 9.0))
    assert cells([case], [make_trial(case, ranks=(record,))])[0].step_s.value == pytest.approx(0.2)
