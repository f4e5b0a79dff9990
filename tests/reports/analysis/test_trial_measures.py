"""The numbers of a trial, and those of them that are stored for checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from pydantic import ValidationError

from bench.core.case import DataSource, Fault
from bench.core.records import Window
from bench.core.step_measures import Overhead, PhaseTimes
from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from harness.store.opening import open_store
from reports.analysis import formatting
from reports.analysis.cells import make_cells
from reports.analysis.trial_measures import measure_trial, overheads_of, settings_of, stored_measures, trial_overheads
from tests.support import old_store
from tests.support.builders import make_case, make_record, make_trial


def two_ranks(**changes):
    return tuple(make_record(rank, 2, (0.1, 0.2, 0.4 - 0.3 * rank), **changes) for rank in range(2))


def test_a_step_lasts_as_long_as_its_slowest_rank():
    found = stored_measures(make_trial(make_case(), ranks=two_ranks()))
    assert found["step_s"] == 0.2
    assert found["rate"] == pytest.approx(8 * 3 / 0.7)
    assert set(found) == {"step_s", "rate"}, "what is unknown is left out"


def test_memory_is_the_largest_rank_s_and_unknown_where_one_is():
    known = [make_record(0, 2, memory_peak_bytes=5), make_record(1, 2, memory_peak_bytes=7)]
    assert stored_measures(make_trial(make_case(), ranks=tuple(known)))["memory_bytes"] == 7
    known[0] = make_record(0, 2)
    assert "memory_bytes" not in stored_measures(make_trial(make_case(), ranks=tuple(known)))


def phases(own_s: float) -> PhaseTimes:
    alone = dict.fromkeys(("data", "forward", "backward", "optimizer"), (own_s / 4,))
    return PhaseTimes(together_s=(1.0,), alone_s=alone, digest="d")


def test_exposed_communication_is_what_the_slowest_rank_s_own_work_leaves_of_a_step():
    ranks = (make_record(0, 2, phases=phases(0.5)), make_record(1, 2, phases=phases(0.8)))
    assert stored_measures(make_trial(make_case(), ranks=ranks))["exposed_s"] == pytest.approx(0.2)
    alone = make_trial(make_case(ranks=1), ranks=(make_record(phases=phases(0.5)),))
    assert "exposed_s" not in stored_measures(alone)


def energy(device: str, name: str) -> NodeTelemetry:
    """20 W over a window of 1 s."""
    series = Series(device=device, name=name, times_s=(0.0, 0.5, 1.0), values=(100.0, 110.0, 120.0))
    devices = (Device(id=HOST, name="here"), *((Device(id=device, name="GPU"),) if device != HOST else ()))
    return NodeTelemetry(
        host="here", source="live", interval_s=1, began_s=0, ended_s=1, devices=devices, series=(series,)
    )


@pytest.mark.parametrize(
    ("computed_on", "sampled", "known"),
    [("cpu", HOST, True), ("cuda", HOST, False), ("cuda", "GPU-1", True), ("cpu", "GPU-1", False)],
)
def test_energy_is_that_of_the_devices_that_computed(computed_on, sampled, known):
    case = make_case(ranks=1, device=computed_on)
    rank = make_record(step_s=(0.5, 0.5), window=Window(began_s=0, ended_s=1, cpu_s=1))
    name = "cpu_energy_j" if sampled == HOST else "energy_j"
    found = stored_measures(make_trial(case, ranks=(rank,), telemetry=(energy(sampled, name),)))
    assert found.get("joules_per_sample") == (pytest.approx(20 / 16) if known else None)


@pytest.mark.parametrize("outcome", ["failed", "timeout", "invalid", "skipped"])
def test_only_a_successful_trial_has_numbers(outcome):
    assert stored_measures(make_trial(make_case(), outcome=outcome)) == {}


def test_a_fault_on_purpose_is_nothing_to_judge():
    slow = make_case(fault=Fault(kind="slow", rank=0, ms=200))
    assert stored_measures(make_trial(slow)) == {}


def test_there_is_no_window_without_a_step():
    with pytest.raises(ValidationError, match="at least 1 item"):
        make_record(0, 2, ())


@pytest.mark.parametrize(
    ("changes", "matter"),
    [
        ({"steps": 9}, True),
        ({"window_s": 9.0}, True),
        ({"warmup": 9}, True),
        ({"affinity": "none"}, True),
        ({"verify_steps": 9}, True),
        ({"precision": 0.1}, True),
        ({"telemetry": "off"}, True),
        ({"data": DataSource(name="MNIST", digest="2", path="/a")}, True),
        ({"data": DataSource(name="MNIST", digest="1", path="/b")}, False),
        ({"timeout_s": 9.0}, False),
        ({"roofline": True}, False),
        ({"own_cost": True}, False),
    ],
)
def test_settings_include_what_changes_the_measurement(changes, matter):
    plain = make_case(data=DataSource(name="MNIST", digest="1", path="/a"))
    changed = plain.model_copy(update=changes)
    assert (settings_of(changed) != settings_of(plain)) is matter
    assert changed.key == plain.key, "the key does not tell them apart"


def test_measures_of_an_old_store_are_those_of_its_trials(tmp_path):
    place = old_store.restore(tmp_path / "r.sqlite")
    with closing(sqlite3.connect(place)) as connection:
        rows = connection.execute("SELECT key, round, name, value FROM measures WHERE sweep = ?", (old_store.SWEEP,))
        stored = {(key, number, name): value for key, number, name, value in rows}
    store = open_store(place, create=False)
    measured = {
        (trial.case.key, trial.round, name): value
        for trial in store.trials(old_store.SWEEP)
        for name, value in stored_measures(trial).items()
    }
    store.close()
    assert {name for *_, name in stored} >= {"step_s", "rate", "memory_bytes", "exposed_s"}
    assert measured == stored


def test_a_cell_has_the_measures_of_its_successful_trials():
    case = make_case(ranks=2)
    trials = [
        make_trial(case, 0, 0.1),
        make_trial(case, 1, outcome="failed", ranks=(), reason="died"),
        make_trial(case, 2, 0.2),
    ]
    (cell,) = make_cells([case], {}, trials, {})
    assert cell.measures == tuple(map(measure_trial, (trials[0], trials[2])))
    assert cell.rates == tuple(trial.throughput for trial in cell.measures) == (80.0, 40.0)


def test_labels_follow_the_case_and_are_part_of_no_document():
    (cell,) = make_cells([make_case(ranks=4)], {}, [make_trial(make_case(ranks=4))], {})
    placed = cell.with_case(ranks_per_node=2, label="A")
    assert (cell.labels.backend, placed.labels.backend) == ("ddp/gloo", "ddp/gloo, 2 a node · A")
    assert (cell.labels.rank_count, placed.labels.rank_count) == ("4", "4 on 2 nodes")
    assert placed.labels.throughput == cell.labels.throughput == "80.0 samples/s"
    assert cell.with_flag("imprecise").labels.flags == "no_baseline, few_trials, imprecise"
    assert cell.model_dump().keys().isdisjoint({"labels", "measures"})


def with_overhead(ratio: float, device: str, round_number: int = 0, pairs: int = 4, multiple: int = 1):
    """Blocks that take 1 s without measuring, and by a hundredth more or less than ``ratio`` with it."""
    watched = tuple(ratio * (1.01 if pair % 2 else 1 / 1.01) for pair in range(pairs))
    cost = Overhead(steps=10, watched_s=watched, unwatched_s=(1.0,) * pairs, multiple=multiple)
    rank = make_record(device=device, own_cost=cost)
    return make_trial(make_case(ranks=1), round_number, ranks=(rank,))


def test_the_overhead_is_told_for_each_kind_of_device():
    trials = [
        with_overhead(1.002, "cpu", 0),
        with_overhead(1.004, "cpu", 1),
        with_overhead(1.05, "cuda:0 (NVIDIA H200)"),
        make_trial(make_case(ranks=1)),
    ]
    found = overheads_of(trial_overheads(trials))
    assert list(found) == ["CPU", "NVIDIA H200"]
    assert found["CPU"].value == pytest.approx(1 / 1.003, rel=1e-5)
    assert found["CPU"].n == 2
    assert found["NVIDIA H200"].value == pytest.approx(1 / 1.05)
    assert (found["NVIDIA H200"].low, found["NVIDIA H200"].n) == (pytest.approx(0.9351, abs=1e-4), 1)
    cpu, gpu = formatting.overheads(found)
    assert cpu.startswith("CPU: step timing and sampling take 0.3 % (")
    assert gpu == "NVIDIA H200: step timing and sampling take 4.8 % (3.0 to 6.5 %) of throughput, from 1 trial"
    assert formatting.overheads({}) == ["not measured"]


def test_what_was_measured_several_times_costs_a_part_of_it_and_so_does_its_noise():
    (once,), (tenfold,) = (
        overheads_of(trial_overheads([with_overhead(ratio, "cpu", multiple=multiple)])).values()
        for ratio, multiple in ((1.004, 1), (1.004**10, 10))
    )
    assert tenfold.value == pytest.approx(once.value) == pytest.approx(1 / 1.004)
    assert tenfold.high - tenfold.low == pytest.approx((once.high - once.low) / 10, rel=0.01)


def test_a_host_clock_that_stood_still_has_measured_nothing():
    """Its steps have no geometric mean over trials."""
    record = make_record(step_s=(0.1, 0.1), steps_per_entry=4, host_step_s=(0.0, 0.0))
    trials = [make_trial(make_case(ranks=1), number, ranks=(record,)) for number in range(2)]
    assert [measure_trial(trial).host_step_s for trial in trials] == [None, None]
    (cell,) = make_cells([trials[0].case], {}, trials, {})
    assert cell.host_step_s is None


def test_a_window_of_no_length_has_no_processor_share():
    record = make_record(step_s=(0.1, 0.1), window=Window(began_s=5.0, ended_s=5.0, cpu_s=1.0))
    measures = measure_trial(make_trial(make_case(ranks=1), ranks=(record,)))
    (reading,) = [reading for reading in measures.usage if reading.name == "rank_cpu"]
    assert (reading.value, reading.reason) == (None, "not recorded")
