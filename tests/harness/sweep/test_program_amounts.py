"""The amount of work in a step of a program, in the records of a trial."""

from __future__ import annotations

import pytest

from harness.sites.base.contract import TrialResult
from harness.sweep.program_amounts import with_total_amounts
from tests.support.builders import make_case, make_program_record, make_record, make_run

METRIC = "([0-9.]+) img/s"


def result_of(*runs, **changes):
    ranks = tuple(
        make_program_record(rank, len(runs), (0.1, 0.3), program=run, amount_per_step=99)
        for rank, run in enumerate(runs)
    )
    return TrialResult("ok", None, ranks, (), (), **changes)


def case_of(**options):
    return make_case(workload="script", backend="torchrun", transport="any", workload_options=options)


def test_all_records_have_the_amount_of_all_ranks():
    result = with_total_amounts(result_of(make_run(amount_per_step=32), make_run(amount_per_step=24)), case_of())
    assert [record.amount_per_step for record in result.ranks] == [56, 56]
    assert result.outcome == "ok"


def test_a_printed_rate_counts_over_the_mean_step_of_the_slowest_rank():
    runs = [make_run(counted="printed", amount_per_step=None, printed=printed) for printed in ((50.0,), ())]
    result = with_total_amounts(result_of(*runs), case_of(metric=METRIC))
    assert [record.amount_per_step for record in result.ranks] == [pytest.approx(10), pytest.approx(10)]


@pytest.mark.parametrize(
    ("runs", "options", "expected"),
    [
        ([make_run(amount_per_step=0)] * 2, {}, "add --samples-per-step"),
        ([make_run(counted="printed", amount_per_step=None)] * 2, {"metric": METRIC}, "in the measured window no line"),
        (
            [
                make_run(counted="printed", amount_per_step=None, printed=(5.0,), printed_scope="rank"),
                make_run(counted="printed", amount_per_step=None, printed_scope="rank"),
            ],
            {"metric": METRIC, "metric_scope": "rank"},
            "on rank 1 no line",
        ),
        (
            [make_run(counted="printed", amount_per_step=None, printed=(5.0, 0.0))] * 2,
            {"metric": METRIC},
            f"rank 0 printed 0 for --metric '{METRIC}', and a rate is above 0",
        ),
    ],
)
def test_a_trial_of_which_nothing_is_known_has_failed(runs, options, expected):
    result = with_total_amounts(result_of(*runs), case_of(**options))
    assert result.outcome == "failed"
    assert expected in result.reason
    assert "\n" not in result.reason


def test_records_that_are_not_whole_or_of_other_work_are_left_alone():
    one = result_of(make_run())
    assert with_total_amounts(one, case_of()) is one
    other = TrialResult("ok", None, (make_record(0, 2), make_record(1, 2)), (), ())
    assert with_total_amounts(other, make_case()) is other
