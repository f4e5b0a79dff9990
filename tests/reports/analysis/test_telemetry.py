"""Samples cut to the window, the readings from them, and the conditions that they show."""

from __future__ import annotations

import pytest

from bench.core.recording import cut_to_window, read_recording
from bench.core.records import Window
from bench.core.telemetry import HOST, Device, GpuProcess, Header, ProcessCheck, Sample, Tick
from reports.analysis.conditions import find_conditions
from reports.analysis.step_times import throughput_of
from reports.analysis.telemetry import usage_of
from reports.analysis.telemetry_window import TelemetryWindow
from tests.support.builders import make_record

GPU = "GPU-1"


def recording(readings_at, interval_s=0.2, until_s=4.0, checks=(), devices=(HOST, GPU), problems=()):
    """One tick every ``interval_s``; ``readings_at(t)`` gives ``[(device, name, value[, reason])]``."""
    header = Header(
        host="here",
        source="live",
        interval_s=interval_s,
        problems=problems,
        devices=tuple(Device(id=name, name=name) for name in devices),
    )
    times = [number * interval_s for number in range(round(until_s / interval_s) + 1)]
    lines = [header.model_dump_json()]
    lines += [Tick(at_s=t, readings=[Sample(*reading) for reading in readings_at(t)]).model_dump_json() for t in times]
    lines += [check.model_dump_json() for check in checks]
    return read_recording(lines)


def ranks(began_s=1.0, ended_s=3.0, cpu_s=1.0, gpu=None, count=1):
    steps = (0.5,) * round((ended_s - began_s) / 0.5)
    window = Window(began_s=began_s, ended_s=ended_s, cpu_s=cpu_s)
    return [
        make_record(rank, count, steps, window=window, gpu=gpu, cores=(rank,), memory_peak_bytes=100 * (rank + 1))
        for rank in range(count)
    ]


def readings(records, node):
    return {reading.name: reading for reading in usage_of(records, [node], throughput_of(records))}


def test_only_the_window_counts():
    """Power is 100 W in the window and 500 W around it; the counter grows accordingly."""

    def at(t):
        inside = min(max(t - 1, 0), 2)
        return [(GPU, "power_w", 100.0 if 1 <= t <= 3 else 500.0), (GPU, "energy_j", 100 * inside + 500 * (t - inside))]

    node = cut_to_window(recording(at, interval_s=0.3), 1.0, 3.0)
    view = TelemetryWindow(node)
    assert view.mean(GPU, "power_w").value == 100
    found = readings(ranks(gpu=GPU), node)
    assert found["gpu_power"].value == 100
    # A reading is 0.05 s old in the mean. The counter at the window's beginning lies on the line from 450 J at 0.85 s
    # to 520 J at 1.15 s; that at its end on the line from 700 J at 2.95 s to 850 J at 3.25 s.
    joules = (700 + 150 / 6) - (450 + 70 / 2)
    # 8 samples a step of 0.5 s: 16 samples a second.
    assert found["gpu_energy"].value == pytest.approx(joules / 2 / 16, rel=1e-9)
    assert found["gpu_energy"].unit == "J/sample"


def test_energy_is_interpolated_at_the_edges_of_the_window():
    node = cut_to_window(recording(lambda t: [(GPU, "energy_j", 250 * t)], interval_s=0.37), 1.0, 3.0)
    assert TelemetryWindow(node).rate(GPU, "energy_j").value == pytest.approx(250)


def test_samples_outside_are_dropped_but_for_one_on_either_side():
    node = cut_to_window(recording(lambda t: [(GPU, "power_w", t)]), 1.1, 2.1)
    (series,) = node.series
    assert series.times_s == pytest.approx((1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2))
    samples, share = TelemetryWindow(node).coverage()
    assert samples == 5
    assert share == pytest.approx(0.8)


def test_too_few_samples_have_a_reason():
    node = cut_to_window(recording(lambda t: [(GPU, "utilization", 0.9)]), 1.0, 1.3)
    found = readings(ranks(1.0, 1.3, gpu=GPU), node)["gpu_utilization"]
    assert found.value is None
    assert found.reason == "2 samples in a window of 0.3 s: too few"


def test_an_unknown_reading_is_null_with_its_reason():
    node = cut_to_window(recording(lambda t: [(GPU, "power_w", None, "not supported by this device")]), 1.0, 3.0)
    found = readings(ranks(gpu=GPU), node)["gpu_power"]
    assert (found.value, found.reason) == (None, "not supported by this device")


def test_one_unknown_device_makes_the_sum_unknown():
    def at(t):
        return [(GPU, "power_w", 100.0), ("GPU-2", "power_w", None, "GPU is lost")]

    node = cut_to_window(recording(at, devices=(HOST, GPU, "GPU-2")), 1.0, 3.0)
    assert readings(ranks(), node)["gpu_power"].reason == "GPU is lost"
    assert readings(ranks(gpu=GPU), node)["gpu_power"].value == 100, "only the devices that the ranks used count"


def test_no_gpu_at_all_says_why():
    node = cut_to_window(recording(lambda t: [], devices=(HOST,), problems=("NVML: no library",)), 1.0, 3.0)
    assert readings(ranks(), node)["gpu_utilization"].reason == "NVML: no library"


def test_readings_of_ranks():
    found = readings(ranks(cpu_s=1.5, count=2), cut_to_window(recording(lambda t: []), 1.0, 3.0))
    assert found["rank_cpu"].value == 0.75
    assert found["rank_memory_peak"].value == 200


def test_a_line_that_was_cut_short_is_left_out():
    header = Header(host="h", source="live", interval_s=0.2, devices=()).model_dump_json()
    tick = Tick(at_s=1.0, readings=()).model_dump_json()
    found = read_recording([header, tick, tick[:9]])
    assert len(found.ticks) == 1
    with pytest.raises(ValueError, match="its first line is no header"):
        read_recording([tick])
    with pytest.raises(ValueError, match="format 9"):
        read_recording([header.replace('"format":2', '"format":9')])


def conditions(at, checks=(), records=None, **changes):
    records = records or ranks(gpu=GPU, **changes)
    return {
        found.name: found for found in find_conditions(records, [cut_to_window(recording(at, checks=checks), 1.0, 3.0)])
    }


def host(t, busy=1.0, job=1.0, steal=0.0, swap=0.0, clock=3e9):
    return [
        (HOST, "cores", 2.0),
        (HOST, "cpu_busy_s", busy * t),
        (HOST, "job_cpu_s", job * t),
        (HOST, "cpu_steal_s", steal * t),
        (HOST, "swapped_bytes", swap * t),
        (HOST, "cpu_frequency_hz", clock),
    ]


def quota(t, throttled, cores=1.5):
    """A CPU quota that is used up in this share of its periods, of which a window of 2 s has 519."""
    return [
        (HOST, "cpu_quota_cores", cores),
        (HOST, "cpu_periods", 259.5 * t),
        (HOST, "cpu_throttled_periods", 259.5 * t * throttled),
    ]


def test_a_cpu_quota_that_is_used_up_is_said_with_its_numbers():
    found = conditions(lambda t: quota(t, throttled=401 / 519))
    assert found["throttled"].seen == "here: the CPU quota of 1.5 cores was used up in 401 of 519 periods"
    assert conditions(lambda t: quota(t, throttled=0.001)) == {}
    assert conditions(lambda t: [*quota(0, throttled=0), (HOST, "cpu_periods", 0.0)]) == {}


def test_the_trial_s_own_ranks_are_no_strangers_whoever_started_them():
    """mpirun's ranks are no children of what started the sampler; containers beside it share the cores."""
    assert "host_load" in conditions(lambda t: host(t, busy=1.9, job=0.1))
    own = [make_record(step_s=(0.5,) * 4, gpu=GPU, cores=(0,), window=Window(began_s=1.0, ended_s=3.0, cpu_s=3.8))]
    assert conditions(lambda t: host(t, busy=1.9, job=0.1), records=own) == {}

    def beside(cores):
        here = {"boot_id": "boot", "window": Window(began_s=1.0, ended_s=3.0, cpu_s=1.9)}
        records = [
            make_record(rank, 2, (0.5,) * 4, host=f"job-{rank}", node=rank, cores=cores[rank], **here)
            for rank in range(2)
        ]
        node = cut_to_window(recording(lambda t: host(t, busy=1.9, job=0.95)), 1.0, 3.0)
        node = node.model_copy(update={"host": "job-0", "node": 0, "boot_id": "boot"})
        return {condition.name for condition in find_conditions(records, [node])}

    assert beside([(0,), (0,)]) == set()
    assert beside([(0,), (1,)]) == {"host_load"}


@pytest.mark.parametrize(("used", "flagged"), [(16, True), (4, False)])
def test_one_busy_process_is_a_load_where_ranks_use_every_core(used, flagged):
    """On the host of an H200 a process that kept one of 16 cores busy took 98 % of the throughput of 16 threads: 73.0k
    became 1.6k samples/s."""
    own = [
        make_record(step_s=(0.5,) * 4, cores=tuple(range(used)), window=Window(began_s=1, ended_s=3, cpu_s=2 * used))
    ]
    at = [(HOST, "cores", 16.0), (HOST, "job_cpu_s", 1.0 * used), (HOST, "cpu_busy_s", 1.0 + used)]
    found = conditions(
        lambda t: [(device, name, value * (t if name != "cores" else 1)) for device, name, value in at], records=own
    )
    assert ("host_load" in found) == flagged


def test_a_quiet_machine_has_no_conditions():
    assert (
        conditions(
            lambda t: [
                *host(t, busy=1.05),
                (GPU, "thermal_throttled_s", 7.0),
                (GPU, "xid_errors", 2.0),
                (GPU, "sm_clock_hz", 1.98e9),
            ]
        )
        == {}
    )


@pytest.mark.parametrize(
    ("at", "name", "serious"),
    [
        (lambda t: host(t, busy=1.5), "host_load", False),
        (lambda t: host(t, steal=0.1), "cpu_steal", False),
        (lambda t: host(t, swap=4096), "swapping", False),
        (lambda t: host(t, swap=5e6), "swapping", True),
        (lambda t: quota(t, throttled=401 / 519), "throttled", False),
        (lambda t: host(t, clock=3e9 if t < 2 else 2e9), "cpu_clock_moved", False),
        (lambda t: [(GPU, "thermal_throttled_s", 0.3 * t)], "gpu_thermal_throttling", True),
        (lambda t: [(GPU, "power_brake_s", 0.3 * t)], "gpu_power_brake", True),
        (lambda t: [(GPU, "xid_errors", float(t > 2))], "gpu_xid", True),
        (lambda t: [(GPU, "double_bit_errors", float(t > 2))], "gpu_memory_errors", True),
        (lambda t: [(GPU, "sm_clock_hz", 1.98e9 if t < 2 else 1.5e9)], "gpu_clock_moved", False),
    ],
)
def test_conditions_are_detected(at, name, serious):
    found = conditions(at)
    assert list(found) == [name]
    assert found[name].serious == serious
    assert found[name].seen.startswith("here")


def test_a_gpu_at_its_power_limit_is_a_share_of_the_window_and_its_clock_no_disturbance():
    """As an H200 under full load: 700 W, clocks between 1,395 and 1,620 MHz."""

    def at(t):
        return [(GPU, "power_capped_s", 0.82 * t), (GPU, "sm_clock_hz", 1.62e9 if t < 2 else 1.395e9)]

    assert conditions(at) == {}
    node = cut_to_window(recording(at), 1.0, 3.0)
    capped = {reading.name: reading for reading in usage_of(ranks(gpu=GPU), [node], 1.0)}["gpu_power_capped"]
    assert capped.value == pytest.approx(0.82)
    assert capped.unit == "1"


def test_a_foreign_process_on_the_gpu():
    check = ProcessCheck(checked_at_s=0.1, processes=(GpuProcess(device=GPU, pid=77, name="miner"),))
    found = conditions(lambda t: [], checks=(check,))
    assert found["foreign_gpu_process"].serious
    assert "77 (miner)" in found["foreign_gpu_process"].seen
    elsewhere = ProcessCheck(checked_at_s=0.1, processes=(GpuProcess(device="GPU-9", pid=77),))
    assert conditions(lambda t: [], checks=(elsewhere,)) == {}


def processes(*listed, devices=(HOST, GPU), source="live", records=None):
    """The conditions where these processes were on the GPUs before the window."""
    check = ProcessCheck(checked_at_s=0.1, processes=listed)
    node = cut_to_window(recording(lambda t: [], checks=(check,), devices=devices), 1.0, 3.0)
    parts = [one.model_copy(update={"part_of": GPU}) if "MIG" in one.id else one for one in node.devices]
    node = node.model_copy(update={"source": source, "devices": tuple(parts)})
    return {found.name: found.serious for found in find_conditions(records or ranks(gpu=GPU), [node])}


STRANGER = GpuProcess(device=GPU, pid=77)


def test_a_cell_on_cpus_is_not_invalid_for_what_happens_on_gpus():
    assert processes(STRANGER, records=ranks()) == {}
    hot = [(GPU, "thermal_throttled_s", 1), (GPU, "xid_errors", 1), (GPU, "power_brake_s", 1)]
    assert conditions(lambda t: [(*series, t) for *series, _ in hot], records=ranks()) == {}
    assert processes(STRANGER, records=ranks(), source="replay:r.jsonl") == {
        "replayed": False,
        "foreign_gpu_process": True,
    }


def test_a_stranger_on_another_gpu_or_the_trial_s_own_process_is_none():
    assert processes(STRANGER, devices=(HOST, GPU, "GPU-2")) == {"foreign_gpu_process": True}
    assert processes(GpuProcess(device="GPU-2", pid=77), devices=(HOST, GPU, "GPU-2")) == {}
    assert processes(GpuProcess(device=GPU, pid=1, name="python")) == {}, "rank 0 was there early"


def test_whose_a_process_is_was_decided_where_it_ran():
    own = GpuProcess(device=GPU, pid=77, name="dask worker", ours=True, relation="started by the trial")
    assert processes(own) == {}
    left = own.model_copy(update={"ours": False, "relation": "left by an earlier trial"})
    check = ProcessCheck(checked_at_s=0.1, processes=(left,))
    found = conditions(lambda t: [], checks=(check,))["foreign_gpu_process"]
    assert found.seen == "here: other processes computed on the GPUs: 77 (dask worker) left by an earlier trial"


def test_many_strangers_are_counted():
    strangers = tuple(GpuProcess(device=GPU, pid=pid, name="python", ours=False) for pid in range(70, 75))
    found = conditions(lambda t: [], checks=(ProcessCheck(checked_at_s=0.1, processes=strangers),))
    assert found["foreign_gpu_process"].seen.endswith("70 (python); 71 (python); 72 (python) and 2 more")


def test_the_name_of_a_stranger_is_one_short_line():
    stranger = GpuProcess(device=GPU, pid=70, name="miner\n\x1b[2J" + "x" * 5000, ours=False)
    found = conditions(lambda t: [], checks=(ProcessCheck(checked_at_s=0.1, processes=(stranger,)),))
    seen = found["foreign_gpu_process"].seen
    assert seen.isprintable()
    assert len(seen) < 150


def test_hidden_processes_are_the_ranks_as_far_as_these_are_missing():
    """In a container NVML may list process ids of the host: rank 0, process 1 here, is one of those."""
    hidden = [GpuProcess(device=GPU, pid=pid, ours=None, relation="not visible") for pid in (4711, 4712)]
    assert processes(hidden[0]) == {}
    assert processes(*hidden) == {"foreign_gpu_process": True}
    listed = GpuProcess(device=GPU, pid=1, ours=True, relation="a rank")
    assert processes(listed, hidden[0]) == {"foreign_gpu_process": True}, "the rank is there under its own id"
    elsewhere = hidden[0].model_copy(update={"device": "GPU-2"})
    assert processes(elsewhere, devices=(HOST, GPU, "GPU-2"), records=ranks(gpu=GPU)) == {}
    slices = (HOST, "MIG-1")
    assert processes(hidden[0], devices=slices, records=ranks(gpu="MIG-1")) == {}
    assert processes(*hidden, devices=slices, records=ranks(gpu="MIG-1")) == {"foreign_gpu_process": True}


def test_what_was_known_of_a_process_before_it_ended_stays():
    def check(at_s, **known):
        return ProcessCheck(checked_at_s=at_s, processes=(GpuProcess(device=GPU, pid=77, name="python", **known),))

    gone = check(9.0, relation="not visible from here")
    assert conditions(lambda t: [], checks=(check(0.1, ours=True, relation="a rank"), gone)) == {}
    found = conditions(lambda t: [], checks=(check(0.1, ours=False, relation="started by bash"), gone))
    assert "started by bash" in found["foreign_gpu_process"].seen
    # A worker that holds a rank is known as its process once the rank has started.
    checks = (check(0.1, ours=False), check(9.0, ours=True, relation="a rank"))
    assert conditions(lambda t: [], checks=checks) == {}


def test_the_server_of_mps_is_no_stranger_and_its_other_clients_are():
    # The kernel cuts names off.
    for name in ("nvidia-cuda-mps-server", "nvidia-cuda-mps-control", "nvidia-cuda-mps", "nvidia-persiste"):
        server = GpuProcess(device=GPU, pid=70, name=name, memory_bytes=30 * 2**20)
        assert processes(server) == {}
    assert processes(server, GpuProcess(device=GPU, pid=78, name="python")) == {"foreign_gpu_process": True}


def test_a_display_is_a_flag_and_what_computes_in_a_window_is_a_stranger():
    display = GpuProcess(device=GPU, pid=79, name="Xorg", memory_bytes=90 * 2**20, draws=True)
    assert processes(display) == {"gpu_draws": False}
    assert processes(display.model_copy(update={"memory_bytes": 6 * 2**30})) == {"foreign_gpu_process": True}
    assert processes(display.model_copy(update={"memory_bytes": None})) == {"foreign_gpu_process": True}
    assert processes(display.model_copy(update={"draws": False})) == {"foreign_gpu_process": True}


@pytest.mark.parametrize(
    ("device", "series", "reading"), [(HOST, "cpu_energy_j", "cpu_energy"), (GPU, "energy_j", "gpu_energy")]
)
def test_a_counter_of_energy_that_stands_still_is_unknown(device, series, reading):
    node = cut_to_window(recording(lambda t: [(device, series, 5.0), (HOST, "network_bytes", 7.0)]), 1.0, 3.0)
    found = readings(ranks(gpu=GPU), node)
    assert (found[reading].value, found[reading].reason) == (None, "its counter does not move here")
    assert found["network"].value == 0, "nothing may have been sent"


def test_a_sampler_that_stopped_midway_says_why():
    node = cut_to_window(recording(lambda t: [(HOST, "network_bytes", t)], until_s=1.2, problems=("why",)), 1.0, 3.0)
    assert readings(ranks(), node)["network"].reason == "2 samples in a window of 2 s: too few; why"


def test_heat_before_the_window_is_ignored():
    assert conditions(lambda t: [(GPU, "thermal_throttled_s", min(t, 0.8))]) == {}
