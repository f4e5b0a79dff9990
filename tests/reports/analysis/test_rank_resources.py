"""Whether ranks had the cores and threads that were planned, and which variables they had."""

from __future__ import annotations

import pytest

from bench.core.machine import NodeFacts
from harness.sites.base.contract import TrialResult
from harness.sweep.assessment import assess_result
from reports.analysis.cells import make_cells
from reports.analysis.conditions import find_conditions
from reports.analysis.rank_resources import resource_problem, variables_of
from reports.page.tables import variables_table
from tests.support.builders import make_case, make_record, make_trial

CASE = make_case(ranks=2, threads=1)


def pinned(rank, cores, planned=None, world=2, threads=1, **changes):
    return make_record(rank, world, cores=cores, planned_cores=planned or cores, threads=threads, **changes)


def facts(node, cores):
    return NodeFacts(
        node=node, host=f"n{node}", system="", cpu="", cores=cores, memory_bytes=1, gpus=(), python="3", packages={}
    )


def test_ranks_as_planned_have_no_problem():
    assert resource_problem(CASE, [pinned(0, (0,)), pinned(1, (1,))], ()) is None
    old = [make_record(rank, 2, cores=(0,)) for rank in range(2)]
    assert resource_problem(CASE, old, ()) is None, "old records know neither plan nor threads"


def test_ranks_on_one_core_are_invalid():
    records = (pinned(0, (0,)), pinned(1, (0,)))
    outcome, reason, _ = assess_result(TrialResult("ok", None, records, (), ()), CASE)
    assert outcome == "invalid"
    assert reason == "not as planned: ranks 0 and 1 shared core 0, and the node has cores enough"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (pinned(1, (0,), planned=(1,)), "rank 1 ran on core 0, planned core 1"),
        (pinned(1, (0, 1), planned=(1,)), "rank 1 ran on cores 0, 1, planned core 1"),
        (pinned(1, (1,), threads=4), "rank 1 computed with 4 threads, planned 1"),
    ],
)
def test_what_differs_from_the_plan_is_named(record, problem):
    assert resource_problem(CASE, [pinned(0, (0,)), record], ()) == problem


@pytest.mark.parametrize(
    ("changes", "nodes"),
    [
        ({"flags": ("oversubscribed",)}, ()),
        ({"flags": ("emulated_compute",)}, ()),
        ({"affinity": "none"}, ()),
        ({"ranks_per_node": 2, "site": "slurm"}, (facts(0, cores=1),)),
        ({"ranks_per_node": 1, "site": "slurm"}, (facts(0, cores=8), facts(1, cores=8))),
    ],
)
def test_cores_may_be_shared_where_that_was_planned_or_the_nodes_are_two(changes, nodes):
    records = [pinned(0, (0,)), pinned(1, (0,))]
    assert resource_problem(CASE.model_copy(update=changes), records, nodes) is None


def test_nodes_that_are_namespaces_share_the_cores_of_one_machine():
    case = CASE.model_copy(update={"net": "1gbit", "ranks_per_node": 1})
    assert "shared core 0" in (resource_problem(case, [pinned(0, (0,)), pinned(1, (0,))], ()) or "")


def test_nodes_that_are_one_machine_are_told_where_their_ranks_share_cores():
    def conditions(*places):
        each = enumerate(places)
        return find_conditions([pinned(at, (core,), node=at, boot_id=boot) for at, (boot, core) in each], ())

    (found,) = conditions(("a", 0), ("a", 0))
    assert (found.name, found.serious) == ("shared_cores", False)
    assert found.seen == "nodes 0 and 1 are one machine: ranks 0 and 1 were pinned to its core 0"
    for places in ((("a", 0), ("a", 1)), (("a", 0), ("b", 0)), ((None, 0), (None, 0))):
        assert conditions(*places) == ()


def with_variables(*each):
    records = tuple(make_record(rank, len(each), variables=each[rank]) for rank in range(len(each)))
    return make_trial(CASE, ranks=records)


def test_variables_of_ranks_are_joined_and_unknown_is_not_none():
    assert variables_of([with_variables(None, None)]) is None
    assert variables_of([with_variables({}, {})]) == {}
    assert variables_of([with_variables({"A": "1"}, {"A": "1", "B": "2"})]) == {"A": "1", "B": "unset | 2"}


def test_the_page_lists_variables_with_the_cells_that_had_them():
    (cell,) = make_cells([CASE], {}, [with_variables({"NCCL_DEBUG": "INFO"}, {"NCCL_DEBUG": "INFO"})], {})
    assert cell.variables == {"NCCL_DEBUG": "INFO"}
    other = cell.model_copy(update={"variables": {}})
    assert variables_table([cell]).rows == (("NCCL_DEBUG", "INFO", "all cells"),)
    assert variables_table([cell, other]).rows == (("NCCL_DEBUG", "INFO", cell.labels.backend),)
    assert variables_table([other]).rows == ()
