"""The efficiency that is lost, by cause: it adds up, in numbers, in words and in bars."""

from __future__ import annotations

import math

import pytest

from bench.core.step_measures import PhaseTimes
from reports.analysis.answer_text import FETCH_FASTER, next_steps, why_text
from reports.analysis.answers import workload_answers
from reports.analysis.bottleneck import EXPOSED, NOT_MEASURED, SLOWER, WAITING, efficiency_losses
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.page.plotly_charts import plotly_figure
from reports.page.step_parts import time_figure
from reports.page.summary import loss_summary
from reports.page.tables import decomposition_table
from tests.support.builders import make_case, make_record, make_trial


def trial(case, number, together_s, own_s, data_s=0.0):
    """Ranks whose step takes ``together_s``, and whose own work takes ``own_s`` of it and their data ``data_s``."""
    ranks = tuple(
        make_record(
            rank,
            case.ranks,
            (together_s,) * 2,
            phases=PhaseTimes(
                together_s=(together_s,),
                digest="d",
                alone_s={"data": (data_s,), "forward": (own / 2,), "backward": (own / 4,), "optimizer": (own / 4,)},
            ),
        )
        for rank, own in enumerate(own_s)
    )
    return make_trial(case, number, ranks=ranks)


@pytest.fixture
def two_ranks():
    """Alone 100 ms; on two ranks 60 and 70 ms of own work (50 would be ideal) in a step of 100 ms."""
    one, two = make_case(ranks=1), make_case(ranks=2)
    trials = [trial(one, n, 0.1, (0.1,)) for n in range(3)] + [trial(two, n, 0.1, (0.06, 0.07)) for n in range(3)]
    return make_cells([one, two], {}, trials, {})


def test_the_losses_add_up_to_the_lost_efficiency(two_ranks):
    found = two_ranks[1].decomposition
    lost = efficiency_losses(found)
    assert lost[EXPOSED] == pytest.approx(0.30)
    assert lost[WAITING] == pytest.approx(0.05)
    assert lost[SLOWER] == pytest.approx(0.15)
    assert math.fsum(lost.values()) == pytest.approx(1 - found.global_efficiency, rel=1e-12)
    assert 1 - found.global_efficiency == pytest.approx(0.5)


def test_losses_are_listed_the_largest_first(two_ranks):
    assert loss_summary(two_ranks[0]) == ""
    output = loss_summary(two_ranks[1])
    assert output == (
        "50 % lost: exposed communication 30 %, compute slower than at the smallest rank count 15 %, load imbalance 5 %"
    )
    (answer,) = workload_answers(analyse_cells(two_ranks))
    assert answer.cause.sentence == "exposed communication takes 30 % of a step of ddp/gloo at 2 ranks"


def loading(data_s, own_s):
    """The answer of a sweep at one rank and at two, whose exchange takes 20 ms that compute does not hide."""
    one, two = make_case(ranks=1), make_case(ranks=2)
    trials = [trial(one, n, 2 * (data_s + own_s), (2 * own_s,), 2 * data_s) for n in range(3)]
    trials += [trial(two, n, data_s + own_s + 0.02, (own_s, own_s), data_s) for n in range(3)]
    cells = make_cells([one, two], {}, trials, {})
    (answer,) = workload_answers(analyse_cells(cells))
    return answer, next_steps([answer], cells)


def test_data_that_ranks_wait_for_is_named_beside_the_cause_although_it_costs_no_efficiency():
    answer, steps = loading(0.07, own_s=0.01)
    assert answer.cause.name == "exposed communication"
    assert answer.data_share == pytest.approx(0.7)
    assert why_text(answer).endswith(" of a step of ddp/gloo at 2 ranks; fetching data takes 70 % of it")
    assert FETCH_FASTER in steps


@pytest.mark.parametrize("data_s", [0.01, 0.0])
def test_data_that_takes_less_than_the_exchange_is_not_named(data_s):
    answer, steps = loading(data_s, own_s=0.07)
    assert answer.data_share is None
    assert "data" not in why_text(answer)
    assert FETCH_FASTER not in steps


def test_the_bars_add_up_to_the_step(two_ranks):
    figure = time_figure("g0", two_ranks)
    assert figure.categories == ("ddp/gloo, 1", "ddp/gloo, 2")
    for bar, step_s in enumerate((0.1, 0.1)):
        assert math.fsum(layer.y[bar] for layer in figure.series) == pytest.approx(step_s)
    assert "exposed communication 30 %" in figure.caption
    drawn = plotly_figure(figure)
    assert drawn["layout"]["barmode"] == "stack"
    assert {trace["type"] for trace in drawn["data"]} == {"bar"}
    assert len({trace["marker"]["pattern"]["shape"] for trace in drawn["data"]}) == len(drawn["data"])


def test_cells_without_a_decomposition_have_no_figure():
    case = make_case(ranks=2)
    assert time_figure("g0", make_cells([case], {}, [make_trial(case)], {})) is None


def test_a_backend_that_cannot_be_decomposed_has_a_reason_and_no_share_of_zero():
    cases = [make_case(backend="fsdp", ranks=ranks) for ranks in (1, 2)]
    reason = "parameters are gathered in every pass"
    trials = [
        make_trial(
            case,
            number,
            ranks=tuple(make_record(rank, case.ranks, phases_reason=reason) for rank in range(case.ranks)),
        )
        for case in cases
        for number in range(3)
    ]
    cells = make_cells(cases, {}, trials, {})
    assert [(cell.decomposition, cell.decomposition_reason) for cell in cells] == [(None, reason)] * 2
    (answer,) = workload_answers(analyse_cells(cells))
    assert (answer.cause, answer.cause_reason) == (None, f"{NOT_MEASURED}: {reason}")
    assert [row[-1] for row in decomposition_table(cells).rows] == [f"not measured: {reason}"] * 2
    (bottleneck,) = analyse_cells(cells).bottlenecks
    assert (bottleneck.case.ranks, bottleneck.shares, bottleneck.reason) == (2, {}, reason)
