"""The probes of the host and of a recording."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import pytest

from bench.core.telemetry import QUANTITIES, Device, Header, Sample, Tick
from bench.telemetry.probes.host import CoreTimes, HostProbe, JobCpuTime, RaplEnergy, sum_core_times
from bench.telemetry.sampler import ReplayProbe
from tests.support.clocks import FakeClock

HOST_QUANTITIES = set(list(QUANTITIES)[: list(QUANTITIES).index("utilization")])


class Times(NamedTuple):
    """The times of a core as psutil reads them on Linux."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


CORES = (
    Times(100, 1, 20, 1000, 50, 2, 3, 7, 30, 0.5),
    Times(200, 0, 40, 900, 0, 0, 0, 0, 0, 0),
    Times(300, 0, 10, 800, 0, 0, 0, 2, 0, 0),
)


@pytest.mark.parametrize(
    ("cores", "times"),
    [
        ((0,), CoreTimes(1, 100 + 1 + 20 + 2 + 3, 7)),
        ((1, 2), CoreTimes(2, 240 + 310, 2)),
        ((1, 9), CoreTimes(1, 240, 0)),
        ((), CoreTimes(3, 126 + 240 + 310, 9)),
    ],
    ids=["guests count once, disks and steal not", "two cores", "a core that is not there", "all cores"],
)
def test_the_times_of_the_job_s_cores_are_summed(cores, times):
    assert sum_core_times(CORES, cores) == times


def test_the_probe_of_the_host_reads_every_quantity():
    samples = {sample.name: sample for sample in HostProbe((0,)).read()}
    assert samples.keys() == HOST_QUANTITIES
    assert all((sample.value is None) == (sample.reason is not None) for sample in samples.values())
    assert samples["cores"].value == 1
    assert samples["cpu_busy_s"].value > 0


def test_in_the_hub_of_a_network_the_loopback_interface_says_nothing():
    samples = {sample.name: sample for sample in HostProbe((0,), in_network_hub=True).read()}
    assert samples["network_bytes"].value is not None
    assert samples["loopback_bytes"].value is None
    assert "loopback of its own" in samples["loopback_bytes"].reason


def test_the_time_of_a_job_is_that_of_the_parent_s_children():
    parent = psutil.Process().ppid()
    mine = psutil.Process().cpu_times()
    assert JobCpuTime(parent).read().value >= mine.user + mine.system - 0.05
    assert JobCpuTime(2**22 + 1).read().reason == "this kernel does not list a process's children"


def test_the_energy_of_a_package_wraps_around(tmp_path):
    for name, now in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{now}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
    energy = RaplEnergy(tmp_path)
    assert energy.read().value == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("400")
    assert energy.read().value == pytest.approx((150 + 300) / 1e6)
    assert RaplEnergy(tmp_path / "none").read().reason == "no RAPL counters on this machine"


def test_a_recording_is_replayed_at_its_own_pace(tmp_path):
    # Times that floating point holds exactly, so that the last moment of a tick can be tested.
    lines = [Header(host="then", source="live", interval_s=0.125, devices=(Device(id="GPU-1", name="X"),))]
    lines += [Tick(at_s=50 + 0.125 * n, readings=(Sample("GPU-1", "power_w", float(n)),)) for n in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(line.model_dump_json() for line in lines))
    clock = FakeClock(now=7.0)
    probe = ReplayProbe(tmp_path / "r.jsonl", clock)
    assert probe.devices[0].id == "GPU-1"

    def values():
        return [sample.value for sample in probe.read()]

    for elapsed, expected in ((0, [0]), (0.1, [0]), (0.125, [1]), (0.3, [2]), (0.375, [2]), (0.376, [])):
        clock.now = 7.0 + elapsed
        assert values() == expected, elapsed


def test_a_recording_that_is_not_there_is_a_problem(tmp_path):
    missing = ReplayProbe(tmp_path / "none.jsonl")
    assert (missing.devices, missing.read()) == ((), [])
    assert "No such file" in missing.problems[0]
