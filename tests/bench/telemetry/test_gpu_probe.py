"""The GPU probe, through the real pynvml, on a substitute library: see ``nvml/substitute.c`` for the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.core.telemetry import QUANTITIES
from tests.support import nvml_library
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

GPU_0, GPU_1 = "GPU-00000000-0000-4000-8000-000000000000", "GPU-10000000-0000-4000-8000-000000000000"
SLICE_0, SLICE_1 = "MIG-01000000-0000-4000-8000-000000000000", "MIG-02000000-0000-4000-8000-000000000000"
GONE = 2**22 + 1  # above the largest number that a process can have
OF_A_GPU = set(list(QUANTITIES)[list(QUANTITIES).index("utilization") :])

# Runs scenario after scenario: the library reads its settings anew whenever it is initialised.
DRIVER = """
import json, os, sys, time
from bench.telemetry.probes.nvml.probe import GpuProbe

def poll(probe, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield from probe.poll(True)
        time.sleep(0.001)

def run(settings, visible, pauses, counted, polls):
    os.environ["SUBSTITUTE_NVML"] = settings
    if visible is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    probe = GpuProbe()
    seen = {"devices": [d.model_dump() for d in probe.devices], "problems": probe.problems, "reads": []}
    for pause in pauses:
        time.sleep(pause)
        before, readings, after = time.monotonic(), [*probe.read(), *poll(probe, polls)], time.monotonic()
        values, reasons = {}, {}
        for device, name, value, reason, _ in readings:
            values.setdefault(device, {})[name] = value
            reasons.setdefault(device, {})[name] = reason
        calls = [sys.modules["pynvml"].nvmlLib.substitute_calls(name.encode()) for name in counted]
        seen["reads"].append((before, after, values, reasons, calls))
    processes, seen["unlisted"] = probe.processes()
    seen["processes"] = [p.model_dump() for p in processes]
    probe.close()
    probe.close()
    seen["after"] = probe.read()
    return seen

print(json.dumps({name: run(*wanted) for name, wanted in json.loads(sys.argv[1]).items()}))
"""


class Read(NamedTuple):
    before: float
    after: float
    values: dict[str, dict[str, float | None]]
    reasons: dict[str, dict[str, str | None]]
    calls: list[int]


class Scenario(NamedTuple):
    settings: str = ""
    visible: str | None = None
    pauses: tuple[float, ...] = (0.0,)
    counted: tuple[str, ...] = ()
    polls: float = 0.0
    """For how many seconds energy is polled after each reading."""


SCENARIOS = {
    "healthy": Scenario(
        f"gpus=2,gpm=1,throttle=0.5,process={os.getpid()},process={GONE}", pauses=(0, 0.12, 0.1, 0.21), polls=0.03
    ),
    "shared": Scenario(
        f"process={GONE},process={GONE + 1},client={GONE + 2},graphics={GONE + 1},held=40,"
        f"named={GONE}:/usr/bin/nvidia-cuda-mps-server,named={GONE + 1}:/usr/lib/xorg/Xorg"
    ),
    "by index": Scenario("gpus=2", visible="1"),
    "by UUID": Scenario("gpus=2", visible="GPU-1,GPU-0"),
    "by MIG name": Scenario("gpus=2,mig=0", visible=SLICE_1),
    "none": Scenario("gpus=2", visible=""),
    "mixed": Scenario("gpus=2,models=mixed", visible="0"),
    "mig": Scenario(f"gpus=2,mig=0,gpm=1,process={os.getpid()}", pauses=(0, 0.21)),
    "NaN": Scenario("gpm=1,gpm_nan=1", pauses=(0, 0.21)),
    "no GPU": Scenario("gpus=0"),
    "one hidden": Scenario("gpus=2,fault=nvmlDeviceGetHandleByIndex_v2:4:2"),
    "third call": Scenario("fault=nvmlDeviceGetUtilizationRates:999:3", pauses=(0, 0, 0, 0)),
    "lost": Scenario("gpus=2,lost=3", pauses=(0, 0, 0), counted=("nvmlDeviceGetMemoryInfo_v2", "nvmlEventSetWait_v2")),
    "older driver": Scenario(
        "fault=nvmlDeviceGetTemperatureV:13,fault=nvmlDeviceGetMemoryInfo_v2:13,fault=field186:3",
        pauses=(0, 0, 0),
        counted=("nvmlDeviceGetTemperatureV", "field186"),
    ),
    "little supported": Scenario(
        "fault=nvmlDeviceGetTemperatureV:3,fault=nvmlDeviceGetTemperature:3,fault=field74:4,fault=field269:3,"
        "fault=field198:3,fault=field4:3,fault=nvmlDeviceRegisterEvents:3,fault=nvmlDeviceGetComputeRunningProcesses_v3:4",
        pauses=(0, 0, 0),
        counted=("nvmlDeviceGetTemperature", "field198", "nvmlDeviceRegisterEvents", "nvmlGpmQueryDeviceSupport"),
    ),
    "no fields": Scenario("fault=nvmlDeviceGetFieldValues:3", pauses=(0, 0), counted=("nvmlDeviceGetFieldValues",)),
    "xid": Scenario("gpus=2,xid=0.05,xid=0.05", pauses=(0, 0.1, 0)),
    "counter back": Scenario("throttle=-1", pauses=(0, 0.01, 0)),
}
INIT_FAULTS = {
    4: "no permission",
    9: "the NVIDIA driver is not loaded",
    18: "the driver and its library are of different versions; reload the driver or restart the machine",
    999: "the driver met an unknown error",
    77: "NVML error 77",
}
SCENARIOS |= {f"init {code}": Scenario(f"fault=nvmlInitWithFlags:{code}") for code in INIT_FAULTS}


def drive(folder: Path, scenarios: dict[str, Scenario], before: str = "") -> dict:
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", before + DRIVER, json.dumps(scenarios)]
    return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    found = drive(nvml_library.build(tmp_path_factory.mktemp("nvml")), SCENARIOS)
    for scenario in found.values():
        scenario["reads"] = [Read(*read) for read in scenario["reads"]]
    return found


def ids(scenario):
    return [device["id"] for device in scenario["devices"]]


def growth(scenario, device, name, first=0, last=-1):
    """How much a counter grew between two reads, and the shortest and the longest time it can have had."""
    a, b = scenario["reads"][first], scenario["reads"][last]
    return b.values[device][name] - a.values[device][name], b.before - a.after, b.after - a.before


def test_a_healthy_gpu_gives_every_quantity_in_its_unit(seen):
    scenario = seen["healthy"]
    assert scenario["devices"] == [{"id": gpu, "name": "Substitute A", "part_of": None} for gpu in (GPU_0, GPU_1)]
    assert scenario["problems"] == []
    for read in scenario["reads"]:
        assert [set(values) for values in read.values.values()] == [OF_A_GPU, OF_A_GPU]
    values = scenario["reads"][-1].values[GPU_1]
    assert None not in values.values()
    gauges = {name: value for name, value in values.items() if QUANTITIES[name].kind == "gauge"}
    assert gauges == {
        "utilization": 0.75,
        "memory_bytes": 2 * 2**30,
        "power_w": 250,
        "temperature_c": 61,
        "sm_clock_hz": 1.98e9,
        "memory_clock_hz": 2.619e9,
        "sm_activity": 0.8,
        "tensor_activity": 0.4,
        "dram_activity": 0.3,
    }
    assert (values["xid_errors"], values["double_bit_errors"]) == (0, 0)


@pytest.mark.parametrize(
    ("name", "a_second"),
    [
        ("energy_j", 250),
        ("power_capped_s", 0.5),
        ("thermal_throttled_s", 1.0),  # the driver's slowdown and the hardware's
        ("power_brake_s", 0.5),
        ("pcie_bytes", 2e9),  # out and in
        ("nvlink_bytes", 2 * 1024e6),
    ],
)
def test_counters_grow_by_what_was_spent(seen, name, a_second):
    grown, shortest, longest = growth(seen["healthy"], GPU_0, name)
    assert shortest * a_second * 0.999 <= grown <= longest * a_second * 1.001


def test_activity_needs_two_samples_far_apart(seen):
    """Of samples less than 0.05 s apart an H200 makes 0 and NaN, with success; 0.1 s apart ±30 %."""
    first, soon, *later = seen["healthy"]["reads"]
    assert (first.values[GPU_0]["sm_activity"], first.reasons[GPU_0]["sm_activity"]) == (None, "needs two samples")
    assert soon.values[GPU_0]["sm_activity"] is None
    assert soon.reasons[GPU_0]["sm_activity"].endswith("s since the sample before: needs 0.2 s")
    assert [read.values[GPU_0]["sm_activity"] for read in later] == [0.8, 0.8], "the sample before is kept meanwhile"


def test_a_number_that_is_none_is_unknown_whatever_nvml_says(seen):
    read = seen["NaN"]["reads"][-1]
    assert (read.values[GPU_0]["dram_activity"], read.values[GPU_0]["sm_activity"]) == (None, 0.8)
    assert read.reasons[GPU_0]["dram_activity"] == "NVML returned nan without an error"


def test_processes_are_listed_with_what_is_known(seen):
    mine, gone = seen["healthy"]["processes"]
    assert (mine["device"], mine["pid"], mine["memory_bytes"]) == (GPU_0, os.getpid(), 2**30)
    assert mine["name"]
    assert (gone["pid"], gone["name"]) == (GONE, None)
    assert seen["healthy"]["unlisted"] == []


def test_clients_of_an_mps_server_and_what_draws_are_told_apart(seen):
    """Their processes are in other containers: only the driver knows their names."""
    listed = [(one["pid"], one["name"], one["memory_bytes"], one["draws"]) for one in seen["shared"]["processes"]]
    assert sorted(listed, key=lambda one: one[0]) == [
        (GONE, "nvidia-cuda-mps-server", 40 * 2**20, False),
        (GONE + 1, "Xorg", 40 * 2**20, True),
        (GONE + 2, None, 40 * 2**20, False),
    ]
    assert seen["shared"]["unlisted"] == []


def test_an_older_package_costs_what_it_lacks(tmp_path):
    """As nvidia-ml-py 11.450: no GPM, no cumulative throttle times, and texts are bytes."""
    before = (
        "import pynvml\n"
        "lacking = 'gpm', 'mpscompute', 'clocks_event_reason', 'gettemperaturev'\n"
        "for name in [name for name in dir(pynvml) if any(part in name.lower() for part in lacking)]:\n"
        "    delattr(pynvml, name)\n"
        "def as_bytes(function):\n"
        "    return lambda *arguments: function(*arguments).encode()\n"
        "pynvml.nvmlDeviceGetUUID = as_bytes(pynvml.nvmlDeviceGetUUID)\n"
        "pynvml.nvmlDeviceGetName = as_bytes(pynvml.nvmlDeviceGetName)\n"
    )
    scenarios = {
        "": Scenario(f"gpus=2,mig=0,process={os.getpid()}", visible=f"{SLICE_0},GPU-1", pauses=(0, 0.21), polls=0.03)
    }
    old = drive(nvml_library.build(tmp_path), scenarios, before)[""]
    assert [device["id"] for device in old["devices"]] == [SLICE_0, GPU_1]
    _, _, values, reasons, _ = old["reads"][-1]
    assert (values[GPU_1]["utilization"], values[GPU_1]["power_w"], values[GPU_1]["temperature_c"]) == (0.75, 250, 60)
    assert values[GPU_1]["energy_j"]
    assert reasons[GPU_1]["thermal_throttled_s"] == "the package nvidia-ml-py is too old for this: update it"
    assert values[GPU_1]["sm_activity"] is None
    assert reasons[GPU_1]["sm_activity"] == "the package nvidia-ml-py is too old for this: update it"
    assert [process["pid"] for process in old["processes"]] == [os.getpid()]


def test_a_closed_probe_reads_nothing(seen):
    assert all(scenario["after"] == [] for scenario in seen.values())


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("by index", [GPU_1]),
        ("by UUID", [GPU_1, GPU_0]),
        ("by MIG name", [SLICE_1]),
        ("none", []),
        ("mig", [SLICE_0, SLICE_1, GPU_1]),
    ],
)
def test_only_visible_devices_are_read(seen, name, chosen):
    assert ids(seen[name]) == chosen
    assert list(seen[name]["reads"][0].values) == chosen
    assert seen[name]["problems"] == []


def test_an_ambiguous_index_is_a_problem(seen):
    assert ids(seen["mixed"]) == [GPU_0]
    (problem,) = seen["mixed"]["problems"]
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in problem


def test_a_mig_slice_has_memory_and_activity_and_nulls_with_reasons(seen):
    scenario = seen["mig"]
    assert scenario["devices"][0] == {"id": SLICE_0, "name": "Substitute A MIG 3g.40gb", "part_of": GPU_0}
    values, reasons = scenario["reads"][-1].values[SLICE_1], scenario["reads"][-1].reasons[SLICE_1]
    assert set(values) == OF_A_GPU
    # Slice 1 is instance 2, and the substitute takes the instance's number off 80 %.
    known = {"memory_bytes": 2 * 2**30, "sm_activity": 0.78, "tensor_activity": 0.4, "dram_activity": 0.3}
    assert {name: value for name, value in values.items() if value is not None} == known
    assert {reasons[name] for name in OF_A_GPU - known.keys()} == {"a MIG slice has no such reading of its own"}
    # Both slices are of one GPU: its processes are listed once, under the GPU.
    assert [(process["device"], process["pid"]) for process in scenario["processes"]] == [(GPU_0, os.getpid())]


@pytest.mark.parametrize(("code", "reason"), INIT_FAULTS.items())
def test_a_library_that_does_not_start_is_a_problem(seen, code, reason):
    scenario = seen[f"init {code}"]
    assert (scenario["devices"], scenario["problems"]) == ([], [f"NVML: {reason}"])
    assert (scenario["reads"][0].values, scenario["processes"]) == ({}, [])


def test_a_missing_library_or_package_is_a_problem(tmp_path):
    (tmp_path / nvml_library.NAME).touch()  # found before any real one, and none
    absent = drive(tmp_path, {"": Scenario()})[""]
    assert (absent["devices"], absent["problems"]) == ([], ["NVML: libnvidia-ml.so.1 can't be loaded"])
    absent = drive(tmp_path, {"": Scenario()}, before="import sys; sys.modules['pynvml'] = None\n")[""]
    assert absent["problems"] == ["NVML: the package nvidia-ml-py is not installed"]


def test_a_gpu_without_permission_leaves_the_others(seen):
    assert seen["no GPU"]["problems"] == ["NVML: no GPU here"]
    assert ids(seen["one hidden"]) == [GPU_0]
    assert seen["one hidden"]["problems"] == ["NVML: GPU 1: no permission"]


def test_one_failed_call_costs_one_reading(seen):
    reads = seen["third call"]["reads"]
    assert [read.values[GPU_0]["utilization"] for read in reads] == [0.75, 0.75, None, 0.75]
    assert reads[2].reasons[GPU_0]["utilization"] == "the driver met an unknown error"
    assert reads[2].values[GPU_0]["power_w"] == 250


def test_a_lost_gpu_is_not_queried_again(seen):
    # Two GPUs, so the third reading of fields is GPU 0's at the second read.
    first, second, third = seen["lost"]["reads"]
    assert first.values[GPU_0]["power_w"]
    assert second.values[GPU_0]["power_w"] is None
    assert set(third.values[GPU_0].values()) == {None}
    assert set(third.reasons[GPU_0].values()) == {"GPU is lost"}
    assert third.values[GPU_1]["power_w"]
    assert [b - a for a, b in zip(second.calls, third.calls, strict=True)] == [1, 1]  # GPU 1's


def test_an_older_driver_gets_the_older_queries(seen):
    scenario = seen["older driver"]
    for read in scenario["reads"]:
        values = read.values[GPU_0]
        assert (values["temperature_c"], values["memory_bytes"], values["power_w"]) == (60, 3 * 2**30, 249)
    assert scenario["reads"][-1].calls == [1, 1]


def test_an_unsupported_query_is_made_once(seen):
    scenario = seen["little supported"]
    for read in scenario["reads"]:
        values, reasons = read.values[GPU_0], read.reasons[GPU_0]
        unknown = {name: reasons[name] for name, value in values.items() if value is None}
        assert unknown == {
            "power_capped_s": "no permission",
            **dict.fromkeys(
                [
                    "temperature_c",
                    "pcie_bytes",
                    "double_bit_errors",
                    "xid_errors",
                    "sm_activity",
                    "tensor_activity",
                    "dram_activity",
                ],
                "not supported by this device",
            ),
        }
        assert values["thermal_throttled_s"] == 5  # of the one counter that is known
    assert scenario["reads"][-1].calls == [1, 1, 1, 1]
    assert scenario["unlisted"] == [f"processes of {GPU_0}: no permission"]


def test_without_fields_the_rest_is_still_read(seen):
    read = seen["no fields"]["reads"][-1]
    assert (read.values[GPU_0]["power_w"], read.values[GPU_0]["utilization"]) == (249, 0.75)
    assert read.reasons[GPU_0]["energy_j"] == "not supported by this device"
    assert read.calls == [1]


def test_xids_are_counted_on_the_gpu_that_had_them(seen):
    reads = seen["xid"]["reads"]
    assert [(read.values[GPU_0]["xid_errors"], read.values[GPU_1]["xid_errors"]) for read in reads] == [
        (0, 0),
        (2, 0),
        (2, 0),
    ]


def test_a_counter_that_decreased_stays_unknown(seen):
    found = [
        (read.values[GPU_0]["power_capped_s"], read.reasons[GPU_0]["power_capped_s"])
        for read in seen["counter back"]["reads"]
    ]
    assert found[0][0] is not None
    assert found[1:] == [(None, "the counter started over")] * 2
