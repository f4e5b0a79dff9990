"""Recordings cut to the windows of the ranks on the same node, by that node's clock."""

from __future__ import annotations

import pytest

from bench.core.records import RankFailure, Window
from bench.core.telemetry import HOST, Device, Header, Recording, Sample, Tick
from harness.sites.base.contract import TrialResult
from harness.sweep.node_telemetry import cut_telemetry
from reports.analysis.conditions import find_conditions
from reports.analysis.telemetry import usage_of
from reports.analysis.timeline import timelines_of
from tests.support.builders import make_case, make_record, make_trial

CASE = make_case(ranks=2, ranks_per_node=1, site="slurm")


def recording(node, boot_id, starts_s, host="worker", bytes_a_second=10.0):
    """Ten seconds of a node whose clock says ``starts_s`` at their beginning."""
    header = Header(
        host=host,
        source="live",
        interval_s=0.2,
        devices=(Device(id=HOST, name=host),),
        node=node,
        boot_id=boot_id,
    )
    ticks = tuple(
        Tick(
            at_s=starts_s + 0.2 * number,
            readings=(
                Sample(HOST, "network_bytes", bytes_a_second * 0.2 * number),
                Sample(HOST, "swapped_bytes", 1e6 * number if node == 1 else 0.0),
            ),
        )
        for number in range(50)
    )
    return Recording(header, ticks)


def rank(number, boot_id, began_s, host="worker"):
    window = Window(began_s=began_s, ended_s=began_s + 3, cpu_s=3)
    return make_record(number, 2, host=host, node=number, boot_id=boot_id, window=window)


def result(ranks, recordings, failures=()):
    return TrialResult("ok", None, tuple(ranks), tuple(failures), (), tuple(recordings))


TWIN_RANKS = (rank(0, "boot-a", 5.0), rank(1, "boot-b", 100_005.0))
TWIN_RECORDINGS = (recording(0, "boot-a", 0.0), recording(1, "boot-b", 100_000.0, bytes_a_second=30.0))


def test_two_machines_of_one_name_have_windows_of_their_own_clocks():
    nodes = cut_telemetry(result(TWIN_RANKS, TWIN_RECORDINGS), CASE)
    assert [(node.began_s, node.ended_s) for node in nodes] == [(5, 8), (100_005, 100_008)]
    readings = {reading.name: reading for reading in usage_of(TWIN_RANKS, nodes, 1.0)}
    assert readings["network"].value == pytest.approx(40)


def test_machines_of_one_name_are_named_by_their_numbers():
    nodes = cut_telemetry(result(TWIN_RANKS, TWIN_RECORDINGS), CASE)
    (condition,) = find_conditions(TWIN_RANKS, nodes)
    assert condition.seen.startswith("worker (node 1): ")
    timelines = timelines_of([make_trial(CASE, telemetry=nodes)])
    assert [timeline.device for timeline in timelines] == ["worker (node 0)", "worker (node 1)"]


def test_containers_of_one_machine_have_recordings_of_their_own():
    ranks = (rank(0, "boot-a", 2.0, "job-0"), rank(1, "boot-a", 4.0, "job-1"))
    recordings = (recording(0, "boot-a", 0.0, "job-0"), recording(1, "boot-a", 0.0, "job-1"))
    nodes = cut_telemetry(result(ranks, recordings), CASE)
    assert [(node.host, node.began_s) for node in nodes] == [("job-0", 2), ("job-1", 4)]


def test_records_of_before_there_were_boot_ids_go_by_the_host():
    ranks = (make_record(window=Window(began_s=2, ended_s=5, cpu_s=3), host="here"),)
    nodes = cut_telemetry(result(ranks, (recording(None, None, 0.0, "here"),)), make_case(ranks=1))
    assert [(node.began_s, node.ended_s) for node in nodes] == [(2, 5)]


def test_a_sampler_that_failed_leaves_readings_with_its_reason():
    failure = RankFailure(role="sampler", rank=1, host="worker", error="OSError: no space", at=0)
    nodes = cut_telemetry(result(TWIN_RANKS, TWIN_RECORDINGS[:1], [failure]), CASE)
    assert [(node.node, node.ended_s - node.began_s) for node in nodes] == [(0, 3), (1, 3)]
    readings = {reading.name: reading for reading in usage_of(TWIN_RANKS, nodes, 1.0)}
    assert (readings["network"].value, readings["network"].reason) == (None, "the sampler failed: OSError: no space")
    silent = cut_telemetry(result(TWIN_RANKS, ()), CASE)
    assert {node.problems for node in silent} == {("the sampler left no recording",)}
    assert find_conditions(TWIN_RANKS, silent) == ()


def test_without_telemetry_nothing_is_missing():
    assert cut_telemetry(result(TWIN_RANKS, ()), make_case(ranks=2, telemetry="off")) == ()
