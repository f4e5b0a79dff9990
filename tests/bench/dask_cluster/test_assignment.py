"""Which workers of a cluster hold which ranks, and why a cluster can't hold them."""

from __future__ import annotations

import pytest

from bench.dask_cluster import worker
from bench.dask_cluster.assignment import UnsuitableCluster, assign, find_mismatch, planned_tasks, unsuitable_reason
from tests.support.builders import make_case
from tests.support.dask_cluster import make_worker_info


def make(**changes):
    return make_case(**{"backend": "dask", "transport": "tasks", "site": "dask", "ranks_per_node": 1, **changes})


def addresses(assignment) -> list[list[str]]:
    return [[worker.address for worker in node_workers] for node_workers in assignment]


def test_two_hosts_of_one_name_are_two():
    workers = [make_worker_info("worker", port, boot_id=f"boot-{port % 2}") for port in range(4)]
    nodes = assign(make(ranks=4, ranks_per_node=2), workers)
    assert [{worker.facts.boot_id for worker in node} for node in nodes] == [{"boot-0"}, {"boot-1"}]


def test_tasks_put_each_rank_in_a_worker_of_its_own_host_by_host():
    workers = [make_worker_info(host, port) for host, port in [("n2", 1), ("n1", 2), ("n1", 1), ("n2", 2), ("n3", 1)]]
    assert addresses(assign(make(ranks=4, ranks_per_node=2), workers)) == [
        ["tcp://n1:1", "tcp://n1:2"],
        ["tcp://n2:1", "tcp://n2:2"],
    ]


def test_a_worker_without_a_thread_for_the_exchange_holds_no_rank_by_tasks():
    workers = [make_worker_info("n1", 1, threads=1), make_worker_info("n2", 1)]
    assert addresses(assign(make(ranks=1), workers)) == [["tcp://n2:1"]]


def test_ranks_in_processes_need_as_many_threads_as_they_have_and_no_worker_each():
    case = make(transport="gloo", ranks=4, ranks_per_node=4)
    assert addresses(assign(case, [make_worker_info("n1", 1, threads=8)])) == [["tcp://n1:1"]]
    with pytest.raises(
        UnsuitableCluster, match="4 ranks take 1 host whose workers have 4 threads; the cluster has workers on n1"
    ):
        assign(case, [make_worker_info("n1", 1), make_worker_info("n1", 2, threads=1)])


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ([], "3 ranks by tasks take 3 hosts with 1 worker of 2 threads; the cluster has no workers"),
        (
            [make_worker_info("n1", 1), make_worker_info("n1", 2, threads=1), make_worker_info("n2", 1, threads=4)],
            "the cluster has workers on n1 (2, 1 threads), n2 (4 threads)",
        ),
    ],
)
def test_too_small_a_cluster_is_refused_with_what_it_has(workers, reason):
    with pytest.raises(UnsuitableCluster) as refused:
        assign(make(ranks=3), workers)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("case", "hosts"),
    [
        (make(ranks=4, ranks_per_node=2), [0, 0, 1, 1]),
        (make(ranks=3, ranks_per_node=2), [0, 0, 1]),
        (make(ranks=4, ranks_per_node=2, transport="gloo"), [0, 1]),
    ],
)
def test_the_planned_tasks_call_functions_that_exist(case, hosts):
    tasks = planned_tasks(case)
    assert [task["host"] for task in tasks] == hosts
    for task in tasks:
        module, _, name = task["calls"].rpartition(".")
        assert module == worker.__name__
        assert callable(getattr(worker, name))


HERE = make_worker_info("here", 0)
VERSIONS = {"python": "3.11", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1"}


@pytest.mark.parametrize(
    ("scheduler", "worker", "mismatch"),
    [
        ({**VERSIONS, "dask": "2025.1.0"}, make_worker_info("n1", 1), "the scheduler has dask 2025.1.0"),
        ({**VERSIONS, "dask": None}, make_worker_info("n1", 1), "the scheduler has no dask"),
        (VERSIONS, make_worker_info("n1", 1, distributed="1"), "worker tcp://n1:1 on n1 has distributed 1"),
        (VERSIONS, make_worker_info("n1", 1, package="other"), "other sources of this package (other, here same)"),
    ],
)
def test_what_differs_on_the_cluster_is_one_line(scheduler, worker, mismatch):
    found = find_mismatch(HERE, scheduler, [worker])
    assert mismatch in found
    assert "\n" not in found


def test_a_cluster_with_the_same_versions_and_sources_matches():
    assert find_mismatch(HERE, VERSIONS, [make_worker_info("n1", 1)]) is None


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (make(), None),
        (make(backend="ddp", transport="gloo"), "runs the dask backend only: --backends dask"),
        (make(fault={"kind": "kill", "rank": 0}), "kill would hit the cluster's own worker: --set dask.transport=gloo"),
        (make(fault={"kind": "raise", "rank": 0}), None),
        (make(env={"A": "1"}), "have their variables already: --set dask.transport=gloo"),
        (make(env={"A": "1"}, transport="gloo"), None),
        (make(fault={"kind": "kill", "rank": 0}, transport="gloo"), None),
    ],
)
def test_cases_that_no_cluster_can_run(case, reason):
    found = unsuitable_reason(case)
    assert found is None if reason is None else reason in found
