"""Recordings cut to the windows of the ranks on the same node, by that node's clock."""

from __future__ import annotations

import pytest

from bench.core.recording import Recording
from bench.core.records import RankFailure, Window
from bench.core.telemetry import HOST, Device, Header, NodeTelemetry, Sample, Tick
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
    assert [condition.name for condition in find_conditions(TWIN_RANKS, silent)] == ["not_sampled", "not_sampled"]


def test_readings_that_are_a_recording_s_are_flagged():
    live = recording(0, "boot-a", 0.0)
    replay = live._replace(header=live.header.model_copy(update={"source": "replay:h200.jsonl"}))
    (node,) = cut_telemetry(result(TWIN_RANKS[:1], [replay]), make_case(ranks=1))
    (condition,) = find_conditions(TWIN_RANKS[:1], [node])
    assert (condition.name, condition.serious) == ("replayed", False)
    assert condition.seen == "worker: its readings come from h200.jsonl"
    assert find_conditions(TWIN_RANKS[:1], cut_telemetry(result(TWIN_RANKS[:1], [live]), make_case(ranks=1))) == ()


def ticks_at(recorded, *times_s):
    tick = recorded.ticks[0]
    return recorded._replace(ticks=tuple(tick.model_copy(update={"at_s": at_s}) for at_s in times_s))


def every(interval_s, began_s, ended_s):
    return [began_s + interval_s * number for number in range(round((ended_s - began_s) / interval_s) + 1)]


LONG = Window(began_s=5, ended_s=15, cpu_s=3)
LONG_RANK = make_record(0, 1, host="worker", node=0, boot_id="boot-a", window=LONG)


@pytest.mark.parametrize(
    ("times_s", "reason"),
    [
        pytest.param(every(0.2, 0, 9), "no samples for 6.0 s of a window of 10.0 s", id="it ended in the window"),
        pytest.param(every(0.2, 0, 4), "no samples for 11.0 s", id="it ended before"),
        pytest.param([*every(0.2, 0, 7), *every(0.2, 11, 16)], "no samples for 4.0 s", id="it was stopped for a while"),
        pytest.param(every(0.2, 10, 16), "no samples for 5.0 s", id="it began late"),
        pytest.param(every(4, 0, 16), "no samples for 4.0 s", id="it fell behind"),
        pytest.param([], "no samples for 10.0 s", id="it took none"),
        pytest.param(every(1.5, 0, 16), "", id="the machine was busy"),
        pytest.param(every(0.2, 0, 15), "", id="it ended with the window"),
    ],
)
def test_a_sampler_that_missed_a_part_of_the_window_is_a_flag_and_no_number(times_s, reason):
    recorded = ticks_at(recording(0, "boot-a", 0.0), *times_s)
    (node,) = cut_telemetry(result([LONG_RANK], [recorded]), make_case(ranks=1))
    assert reason in node.incomplete
    assert bool(node.incomplete) == bool(reason)
    conditions = [condition.name for condition in find_conditions([LONG_RANK], [node])]
    assert conditions == (["not_sampled"] if reason else [])
    readings = {reading.name: reading for reading in usage_of([LONG_RANK], [node], 1.0)}
    if reason:
        assert (readings["network"].value, readings["network"].reason) == (None, node.incomplete)


def test_a_sampler_that_was_killed_in_a_short_window_is_a_flag():
    lost = RankFailure(role="sampler", rank=1, host="", error="it was killed by SIGKILL", at=0)
    recorded = [
        ticks_at(one, *every(0.2, began_s, began_s + 7)) for one, began_s in zip(TWIN_RECORDINGS, (0, 1e5), strict=True)
    ]
    nodes = cut_telemetry(result(TWIN_RANKS, recorded, [lost]), CASE)
    assert [node.incomplete for node in nodes] == ["", "the sampler failed: it was killed by SIGKILL"]


def test_what_disturbed_the_sampled_part_is_told_nevertheless():
    recorded = recording(1, "boot-a", 0.0)._replace(ticks=recording(1, "boot-a", 0.0).ticks[:45])
    rank_1 = LONG_RANK.model_copy(update={"node": 1})
    (node,) = cut_telemetry(result([rank_1], [recorded]), make_case(ranks=1))
    assert {condition.name for condition in find_conditions([rank_1], [node])} == {"not_sampled", "swapping"}


def test_telemetry_from_before_it_was_looked_at_is_read_as_complete():
    (node, _) = cut_telemetry(result(TWIN_RANKS, TWIN_RECORDINGS), CASE)
    assert NodeTelemetry.model_validate_json(node.model_dump_json(exclude={"incomplete"})) == node


def test_without_telemetry_nothing_is_missing():
    assert cut_telemetry(result(TWIN_RANKS, ()), make_case(ranks=2, telemetry="off")) == ()
