"""What a program did that its number should be read with."""

from __future__ import annotations

from harness.sites.base.contract import TrialResult
from harness.sweep.assessment import assess_result
from reports.analysis.flags import explain_flag
from reports.analysis.program_conditions import program_conditions
from tests.support.builders import make_case, make_program_record, make_record, make_run

CASE = make_case(ranks=2, threads=1, workload="script", backend="torchrun")


def test_a_program_that_chooses_its_threads_counts_and_says_so():
    records = (make_program_record(0, 2, threads=1), make_program_record(1, 2, threads=4))
    outcome, reason, _ = assess_result(TrialResult("ok", None, records, (), ()), CASE)
    assert (outcome, reason) == ("ok", None)
    (condition,) = program_conditions(CASE, records)
    assert (condition.name, condition.serious) == ("own_threads", False)
    assert condition.seen == "rank 1 computed with 4 threads, planned 1"
    assert explain_flag(condition.name) != condition.name


def test_a_program_that_had_to_be_ended_says_how():
    problem = "it went on after SystemExit"
    records = [make_program_record(rank, 2, program=make_run(exit_problem=problem)) for rank in range(2)]
    (condition,) = program_conditions(CASE, records)
    assert (condition.name, condition.seen) == ("had_to_be_ended", f"rank 0: {problem}")
    assert explain_flag(condition.name) != condition.name


def test_ranks_that_have_not_joined_each_other_are_named():
    def names(*joined, **changes):
        runs = [make_run(joined=one) for one in joined]
        records = [make_program_record(rank, 2, threads=1, program=run) for rank, run in enumerate(runs)]
        return [condition.name for condition in program_conditions(CASE.model_copy(update=changes), records)]

    assert names(False, False) == ["ranks_apart"]
    assert explain_flag("ranks_apart") != "ranks_apart"
    assert names(True, False) == names(None, None) == names(True, True) == names(False, ranks=1) == []


def test_a_program_as_planned_and_a_workload_of_ours_have_none():
    assert list(program_conditions(CASE, [make_program_record(rank, 2, threads=1) for rank in range(2)])) == []
    assert list(program_conditions(CASE, [make_record(rank, 2, threads=4) for rank in range(2)])) == []
