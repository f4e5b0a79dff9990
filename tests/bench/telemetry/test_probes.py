"""The probes of the host and of a recording."""

from __future__ import annotations

import os

import psutil

from bench.core.telemetry import QUANTITIES, Device, Header, Sample, Tick
from bench.core.update_timing import UpdateTiming
from bench.host.quota import read_cpu_quota
from bench.telemetry.probes.host.probe import CoreFrequency, HostProbe, JobCpuTime, SwapReader, read_or_explain
from bench.telemetry.probes.host.throttling import THROTTLING_QUANTITIES
from bench.telemetry.replay import ReplayProbe
from tests.support.clocks import FakeClock

HOST_QUANTITIES = set(list(QUANTITIES)[: list(QUANTITIES).index("utilization")])


def test_the_probe_of_the_host_reads_every_quantity():
    samples = {sample.name: sample for sample in HostProbe((0,)).read()}
    limited = set(THROTTLING_QUANTITIES) if read_cpu_quota() else set()
    assert samples.keys() == HOST_QUANTITIES - set(THROTTLING_QUANTITIES) | limited
    assert all((sample.value is None) == (sample.reason is not None) for sample in samples.values())
    assert samples["cores"].value == 1
    assert samples["cpu_busy_s"].value > 0


def test_in_the_hub_of_a_network_the_loopback_interface_says_nothing():
    samples = {sample.name: sample for sample in HostProbe((0,), hub_ports=("port0", "port1")).read()}
    assert samples["network_bytes"].value == 0, "the ports are not here"
    assert samples["loopback_bytes"].value is None
    assert "loopback of its own" in samples["loopback_bytes"].reason


def test_what_cannot_be_read_costs_one_reading():
    def hidden():
        raise PermissionError(13, "Permission denied", "/proc/stat")

    (busy, stolen) = read_or_explain(("cpu_busy_s", "cpu_steal_s"), hidden)
    assert (busy.value, stolen.value) == (None, None)
    assert "/proc/stat" in busy.reason


def test_the_kernel_s_files_are_read_anew_each_time(tmp_path):
    for name, text in (("vmstat", "pswpin_not 9\npswpin 3\npswpout 4\n"), ("cpuinfo", "cpu MHz\t\t: 1000.5\n")):
        (tmp_path / name).write_text(text)
    swap, clock = SwapReader(tmp_path), CoreFrequency(tmp_path)
    page = os.sysconf("SC_PAGE_SIZE")
    assert [reader.read()[0].value for reader in (swap, clock)] == [7 * page, 1000.5e6]
    # Longer than what one read returns, and shorter again.
    (tmp_path / "vmstat").write_text("nr_pages 1\n" * 10_000 + "pswpin 5\npswpout 6\n")
    (tmp_path / "cpuinfo").write_text("cpu MHz : 1000.0\n" * 2 + "cpu MHz : 4000.0\n")
    assert [reader.read()[0].value for reader in (swap, clock)] == [11 * page, 2e9]
    (tmp_path / "vmstat").write_text("nr_pages 1\n")
    assert swap.read()[0].reason == "this kernel does not report it"
    assert SwapReader(tmp_path / "none").read()[0].reason == "this kernel does not report it"


def test_the_time_of_a_job_is_that_of_the_parent_s_children():
    parent = psutil.Process().ppid()
    mine = psutil.Process().cpu_times()
    assert JobCpuTime(parent).read()[0].value >= mine.user + mine.system - 0.05
    assert JobCpuTime(2**22 + 1).read()[0].reason == "this kernel does not list a process's children"


def test_a_recording_is_replayed_at_its_own_pace(tmp_path):
    # Times that floating point holds exactly, so that the last moment of a tick can be tested.
    lines = [Header(host="then", source="live", interval_s=0.125, devices=(Device(id="GPU-1", name="X"),))]
    lines += [Tick(at_s=50 + 0.125 * n, readings=(Sample("GPU-1", "power_w", float(n)),)) for n in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(line.model_dump_json() for line in lines))
    clock = FakeClock(now=7.0)
    probe = ReplayProbe(tmp_path / "r.jsonl", clock)
    assert probe.devices[0].id == "GPU-1"

    def values():
        return [(sample.value, sample.at_s) for sample in probe.read()]

    for elapsed, expected in ((0, [(0, 7)]), (0.1, []), (0.3, [(1, 7.125), (2, 7.25)]), (0.375, [])):
        clock.now = 7.0 + elapsed
        assert values() == expected, elapsed


def test_a_replayed_sample_keeps_its_distance_from_its_tick(tmp_path):
    timing = UpdateTiming(device="GPU-1", name="energy_j", update_s=0.1, at_changes=True)
    tick = Tick(at_s=50.0, readings=(Sample("GPU-1", "energy_j", 5.0, None, 49.75), Sample("GPU-1", "power_w", 9.0)))
    header = Header(host="then", source="live", interval_s=0.2, devices=(), update_timings=(timing,))
    (tmp_path / "r.jsonl").write_text("\n".join(line.model_dump_json() for line in (header, tick)))
    probe = ReplayProbe(tmp_path / "r.jsonl", FakeClock(now=7.0))
    assert probe.update_timings == (timing,)
    assert [sample.at_s for sample in probe.read()] == [6.75, 7.0]


def test_a_recording_that_is_not_there_is_a_problem(tmp_path):
    missing = ReplayProbe(tmp_path / "none.jsonl")
    assert (missing.devices, missing.read()) == ((), [])
    assert "No such file" in missing.problems[0]
