"""What a sweep has decided, what is open, and whose trials would help."""

from __future__ import annotations

import random

import pytest

from reports.analysis.decisions import Decision, Decisions, Observed, StoppingRule, decide, questions_of
from tests.support.builders import make_case
from tests.support.trial_distributions import fixed, is_wrong, made_up, quick_cases, simulate, worst_truth

RULE = StoppingRule(max_rounds=5)


def observe(*rates: tuple[str, int, list[float]], **changes) -> list[Observed]:
    """Cells by backend and ranks, with the throughput of each round."""
    found = []
    for backend, ranks, values in rates:
        case = make_case(backend=backend, ranks=ranks, batch=128, **changes)
        found.append(Observed(case, case.key, dict(enumerate(values)), len(values) - 1, len(values)))
    return found


def only(decisions: Decisions, kind: str) -> Decision:
    (found,) = (decision for decision in decisions.decisions if decision.kind == kind)
    return found


STEADY = [100.0, 101.0, 99.5, 100.2]
"""Four trials that scatter by less than 1 %."""


def times(factor: float, rates: list[float] = STEADY) -> list[float]:
    return [factor * rate * noise for rate, noise in zip(rates, (1.0, 0.995, 1.004, 1.0), strict=False)]


def test_a_backend_that_is_clearly_faster_is_the_answer_and_the_others_are_slower():
    found = decide(observe(("ddp", 2, STEADY), ("horovod", 2, times(0.8)), ("dask", 2, times(0.5))), RULE)
    fastest = only(found, "fastest")
    assert (fastest.state, fastest.ranks, fastest.answer) == ("decided", 2, make_case(batch=128).key)
    assert {rival.word for rival in fastest.rivals} == {"slower"}
    assert [round(rival.ratio, 1) for rival in fastest.rivals] == [0.8, 0.5]
    assert found.needed == ()


def test_backends_within_the_margin_are_equivalent_and_need_no_further_trial():
    found = decide(observe(("ddp", 2, STEADY * 2), ("horovod", 2, times(0.999) * 2)), StoppingRule(max_rounds=20))
    (rival,) = only(found, "fastest").rivals
    assert rival.word == "equivalent"
    assert found.needed == ()
    strict = decide(
        observe(("ddp", 2, STEADY * 2), ("horovod", 2, times(0.999) * 2)), StoppingRule(max_rounds=99, margin=0.001)
    )
    assert only(strict, "fastest").state == "open", "a smaller margin needs more"
    assert len(strict.needed) == 2


def test_offsets_that_a_round_shares_cancel():
    slow_round = (1.0, 0.5, 1.3, 0.8)
    rates = [100 * part for part in slow_round]
    found = decide(observe(("ddp", 2, rates), ("horovod", 2, times(0.9, rates))), StoppingRule(max_rounds=20))
    assert only(found, "fastest").state == "decided"


def test_a_peak_and_an_efficiency_are_decided_of_each_curve():
    found = decide(observe(("ddp", 1, STEADY), ("ddp", 2, times(1.2)), ("ddp", 4, times(1.1))), RULE)
    assert [(decision.kind, decision.ranks) for decision in found.decisions] == [
        ("peak", None),
        ("efficiency", 2),
        ("efficiency", 4),
    ]
    assert only(found, "peak").answer == make_case(batch=128, ranks=2).key
    assert [decision.answer for decision in found.decisions[1:]] == ["below", "below"]
    above = decide(observe(("ddp", 1, STEADY), ("ddp", 2, times(1.9))), RULE)
    assert only(above, "efficiency").answer == "above"


def test_of_a_cell_that_failed_nothing_more_is_asked():
    failed = observe(("dask", 2, [90.0]))[0]._replace(rates={}, is_settled=True)
    found = decide([*observe(("ddp", 2, STEADY), ("horovod", 2, times(0.8))), failed], RULE)
    fastest = only(found, "fastest")
    assert fastest.state == "decided"
    assert failed.key not in [rival.key for rival in fastest.rivals]
    alone = decide([*observe(("ddp", 2, STEADY)), failed], RULE)
    assert only(alone, "fastest").reason == "the others have no number"
    none = decide([failed, failed._replace(case=make_case(batch=128), key=make_case(batch=128).key)], RULE)
    assert (only(none, "fastest").answer, none.needed) == (None, ())


def test_a_contaminated_trial_is_made_up_for():
    contaminated = observe(("dask", 2, [90.0]))[0]._replace(rates={})
    found = decide([*observe(("ddp", 2, STEADY[:1]), ("horovod", 2, times(0.8)[:1])), contaminated], RULE)
    assert contaminated.key in found.needed


def test_a_question_that_the_trials_left_can_not_decide_is_given_up_with_what_it_would_need():
    noisy = [100.0, 130.0, 85.0, 110.0]
    cells = (("ddp", 2, noisy), ("horovod", 2, noisy[::-1]), ("dask", 2, [90.0, 80.0, 120.0, 100.0]))
    found = decide(observe(*cells), RULE)
    fastest = only(found, "fastest")
    assert (fastest.state, found.needed) == ("given_up", ())
    assert fastest.rounds_needed > RULE.max_rounds
    more = decide(observe(*cells), StoppingRule(max_rounds=10 * fastest.rounds_needed))
    assert only(more, "fastest").state == "open"


def test_faults_and_cells_without_a_claim_ask_nothing_of_scaling():
    crowded = observe(("ddp", 2, STEADY), ("ddp", 4, STEADY), flags=("oversubscribed",))
    assert decide(crowded, RULE).decisions == ()


def test_before_the_noise_is_known_only_large_differences_decide():
    first = decide(observe(("ddp", 2, [100.0]), ("horovod", 2, [80.0])), RULE)
    assert (first.noise, only(first, "fastest").state) == (None, "open")
    assert only(decide(observe(("ddp", 2, [100.0]), ("horovod", 2, [30.0])), RULE), "fastest").state == "decided"
    # An earlier sweep with the same cells tells how much trials scatter.
    cells = observe(*(("ddp", 2**power, [100.0 + power % 3]) for power in range(8)))
    past = {one.key: 101.0 for one in cells}
    assert decide(cells, RULE).noise is None
    assert decide(cells, StoppingRule(max_rounds=5, past=past)).noise == pytest.approx(0.006, rel=0.1)


@pytest.mark.parametrize("name", ["normal", "shared by a round", "unequal cells"])
def test_wrong_answers_are_rare_where_all_answers_are_just_beyond_the_margin(name):
    random_, cases = random.Random(3), quick_cases()
    questions, by_key = questions_of(cases), {case.key: case for case in quick_cases()}
    truth = worst_truth(cases, RULE.margin)
    wrong = trials = decided = 0
    for seed in range(3):
        sweep = simulate(cases, questions, truth, made_up(name, 0.01, random_), RULE, seed)
        trials += sweep.trials
        decided += sum(decision.state == "decided" for decision in sweep.decisions.decisions)
        wrong += sum(is_wrong(decision, by_key, truth, RULE.margin) for decision in sweep.decisions.decisions)
    assert wrong <= 0.05 * 3 * len(questions)
    assert decided >= 0.5 * 3 * len(questions)
    assert trials < 3 * fixed(cases, questions, truth, made_up(name, 0.01, random_), RULE).trials


def test_a_question_whose_cells_have_no_trial_left_is_given_up_whatever_the_trials_were():
    contaminated = [one._replace(rates={}) for one in observe(("ddp", 1, STEADY), ("ddp", 2, STEADY))]
    found = decide(contaminated, StoppingRule(max_rounds=4))
    assert {(one.state, one.answer, one.reason) for one in found.decisions} == {("given_up", None, "no trial is left")}
    assert {one.state for one in decide(contaminated, RULE).decisions} == {"open"}
    single = decide(observe(("ddp", 1, [100.0]), ("ddp", 2, [120.0])), StoppingRule(max_rounds=1))
    assert {one.state for one in single.decisions} == {"given_up"}


def test_more_trials_than_were_allowed_are_named_where_a_question_was_given_up():
    noisy = [("ddp", [86.0, 100.0]), ("horovod", [54.0, 74.0]), ("dask", [54.0, 44.0]), ("fsdp", [37.0, 48.0])]
    cells = observe(*((backend, 1, rates) for backend, rates in noisy))
    given_up = only(decide(cells, StoppingRule(max_rounds=3)), "fastest")
    assert (given_up.state, given_up.rounds_needed) == ("given_up", 4), "three would do, but are not likely to"


def test_a_cell_that_no_question_is_about_runs_once():
    found = decide(observe(("ddp", 2, [100.0])), RULE)
    assert (found.decisions, found.needed, found.max_trials) == ((), (), 1)
    assert decide(observe(("ddp", 2, [100.0]), ("horovod", 2, [100.0])), RULE).max_trials == 10


def test_where_something_disturbed_the_first_trials_they_are_taken_to_scatter_more():
    rule = StoppingRule(max_rounds=3)
    calm = observe(("ddp", 1, [100.0]), ("horovod", 1, [50.0]))
    assert only(decide(calm, rule), "fastest").state == "decided"
    disturbed = [calm[0], calm[1]._replace(is_disturbed=True)]
    found = decide(disturbed, rule)
    assert only(found, "fastest").state == "open"
    assert (found.noise, found.noise_source, found.assumed_noise) == (None, "assumed", pytest.approx(0.3))
    far = [calm[0], calm[1]._replace(rates={0: 5.0}, is_disturbed=True)]
    assert only(decide(far, rule), "fastest").state == "decided", "what is clear all the same"


def test_the_little_that_few_trials_say_of_their_noise_counts_beside_the_assumption():
    opposite = [("ddp", 1, [100.0, 50.0]), ("horovod", 1, [50.0, 100.0]), ("dask", 1, [10.0])]
    found = decide(observe(*opposite), RULE)
    assert found.noise_source == "assumed"
    assert found.assumed_noise > 0.3
    assert decide(observe(("ddp", 1, [100.0]), ("horovod", 1, [50.0])), RULE).assumed_noise == pytest.approx(0.1)
