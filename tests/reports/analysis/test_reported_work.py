"""What a program reports of itself, judged across numbers of ranks."""

from __future__ import annotations

from bench.core.reported import Reported, ReportedLoss, ReportedParameters
from reports.analysis.cells import make_cells
from reports.analysis.reported_work import NOT_REPORTED, ONE_RANK_COUNT, compare_reported, judge_reported, mean_losses
from reports.analysis.same_work import judge_same_work
from reports.formats.trial_rows import SweepFacts, rows_of
from tests.support.builders import make_case, make_program_record, make_run, make_trial

LOSSES = (2.0, 1.5, 1.2)


def reported(losses=LOSSES, digest="end", samples=1.0, **changes) -> Reported:
    return Reported(
        losses=tuple(ReportedLoss(step=step, value=value, samples=samples) for step, value in enumerate(losses)),
        parameters=ReportedParameters(step=9, digest=digest),
        **changes,
    )


def trial_of(by_rank, round_number=0, amount=8.0, **changes):
    """A trial of a program whose ranks reported ``by_rank``."""
    case = make_case(workload="script", backend="torchrun", ranks=len(by_rank), **changes)
    ranks = tuple(
        make_program_record(rank, len(by_rank), amount_per_step=amount, program=make_run(reported=one))
        for rank, one in enumerate(by_rank)
    )
    return make_trial(case, round_number, ranks=ranks, same_work=judge_same_work(ranks))


def test_without_a_report_it_is_unproven_and_the_reason_says_what_to_call():
    trial = trial_of([None])
    assert (trial.same_work.verdict, trial.same_work.reason) == ("unproven", NOT_REPORTED)
    assert "harness.report(loss" in NOT_REPORTED


def test_ranks_with_other_parameters_did_different_work():
    verdict = judge_reported(trial_of([reported(), reported(digest="other")]).ranks)
    assert verdict.verdict == "different"
    assert "rank 1 has different parameters from rank 0" in verdict.reason


def test_shards_need_not_be_equal():
    shards = [reported(), reported()]
    shards = [
        one.model_copy(update={"parameters": ReportedParameters(step=9, digest=str(rank), sharded=True)})
        for rank, one in enumerate(shards)
    ]
    assert judge_reported(trial_of(shards).ranks).verdict == "unproven"


def test_the_mean_over_ranks_is_weighted_by_samples():
    ranks = trial_of([reported((1.0,), samples=3), reported((2.0,), samples=1)]).ranks
    assert mean_losses(ranks) == {0: 1.25}


def test_the_mean_loss_of_two_ranks_is_that_of_one():
    one = trial_of([reported((2.0, 1.0))])
    two = trial_of([reported((2.5, 1.25)), reported((1.5, 0.75))])
    verdict = compare_reported([two], [[one], [two]])
    assert (verdict.verdict, verdict.deviation) == ("same", 0.0)
    assert "against 1 rank" in verdict.label


def test_other_losses_are_different_work_once_trials_agree_among_themselves():
    one = [trial_of([reported()], number) for number in range(2)]
    two = [trial_of([reported((2.0, 1.6, 1.4))] * 2, number) for number in range(2)]
    verdict = compare_reported(two, [one, two])
    assert verdict.verdict == "different"
    assert verdict.reason.startswith("loss of step 2 deviates by 0.17 from 1 rank, above the tolerance of 0.001")


def test_one_trial_of_each_does_not_tell_other_work_from_other_random_numbers():
    one, two = trial_of([reported()]), trial_of([reported((2.0, 1.6, 1.4))] * 2)
    verdict = compare_reported([two], [[one], [two]])
    assert verdict.verdict == "unproven"
    assert "--repeats 2" in verdict.reason


def test_a_program_without_a_seed_is_unproven():
    one = [trial_of([reported(losses)], number) for number, losses in enumerate(((2.0, 1.5), (2.3, 1.7)))]
    two = [trial_of([reported((2.1, 1.4))] * 2)]
    verdict = compare_reported(two, [one, two])
    assert verdict.verdict == "unproven"
    assert "trials of 1 rank differ" in verdict.reason
    assert "seed" in verdict.reason


def test_other_batches_are_not_compared():
    one, two = trial_of([reported()]), trial_of([reported()] * 2, amount=16.0)
    assert "a step has 16 samples, and 8 at 1 rank" in compare_reported([two], [[one], [two]]).reason


def test_a_rank_that_reports_nothing_is_named():
    one, two = trial_of([reported()]), trial_of([reported(), None])
    assert "rank 1 reported no losses" in compare_reported([two], [[one], [two]]).reason


def test_dropout_is_named_and_a_single_rank_count_is_no_comparison():
    random = trial_of([reported(random="it has dropout (1)")])
    assert "it has dropout (1)" in compare_reported([random], [[random]]).reason
    alone = trial_of([reported()])
    assert compare_reported([alone], [[alone]]).reason == ONE_RANK_COUNT


def test_the_tolerance_is_that_of_the_types_in_use_unless_one_is_given():
    one = trial_of([reported(arithmetic="bfloat16")])
    near = trial_of([reported((2.01, 1.5, 1.2), arithmetic="bfloat16")] * 2)
    assert compare_reported([near], [[one], [near]]).verdict == "same"
    strict = trial_of([reported((2.01, 1.5, 1.2), arithmetic="bfloat16")] * 2, tolerance=1e-4)
    assert compare_reported([strict], [[one], [strict]]).tolerance == 1e-4


def test_a_cell_of_other_work_is_invalid_and_its_trials_stay_as_they_are():
    one = [trial_of([reported()], number) for number in range(2)]
    two = [trial_of([reported((2.0, 1.6, 1.4))] * 2, number) for number in range(2)]
    cells = make_cells([one[0].case, two[0].case], {}, [*one, *two], {})
    assert [cell.outcome for cell in cells] == ["ok", "invalid"]
    assert cells[1].reason.startswith("not the same work: loss of step 2")
    assert cells[1].throughput is None
    assert [cell.same_work.verdict for cell in cells] == ["same", "different"]
    assert all(trial.outcome == "ok" for trial in two)
    facts = SweepFacts.model_construct(id="s", started_at="", commit=None, changed_files=None, environment="e")
    facts = facts.model_copy(update={"host": "h", "cpu": "c", "cores": 2, "gpus": ()})
    rows = [(row.ranks, row.outcome, row.same_work) for row in rows_of(facts, cells, [*one, *two])]
    assert rows == [(1, "ok", "same")] * 2 + [(2, "invalid", "different")] * 2


def flags_of_a_program(scaling, amounts):
    """The flags of each rank count, where its step processes so many samples."""
    trials = [
        trial_of([None] * ranks, round_number, amount, scaling=scaling)
        for ranks, amount in amounts.items()
        for round_number in range(3)
    ]
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    return [cell.flags for cell in make_cells(cases, {}, trials, {})]


def test_a_program_whose_ranks_have_batches_of_their_own_does_not_scale_strongly():
    assert flags_of_a_program("strong", {1: 8, 2: 16}) == [("unproven",), ("unproven", "other_scaling")]
    assert flags_of_a_program("weak", {1: 8, 2: 16}) == [("unproven",), ("unproven",)]


def test_a_program_that_divides_a_global_batch_does_not_scale_weakly():
    assert flags_of_a_program("weak", {1: 8, 2: 8}) == [("unproven",), ("unproven", "other_scaling")]
    assert flags_of_a_program("strong", {1: 8, 2: 8}) == [("unproven",), ("unproven",)]
