"""What a sweep says of the GPUs and hosts it ran on; the GPUs are a substitute NVML library or a recorded file."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest

from bench.core.telemetry import Device, Header, Sample, Tick
from tests.support import h200_telemetry
from tests.support.nvml_library import build

CELLS = ("--backends", "single,ddp", "--workloads", "synthetic", "--device", "cpu", "--window", "1")
ONE = ("--backends", "ddp", "--workloads", "synthetic", "--ranks", "2", "--device", "cpu", "--window", "1")


@pytest.fixture
def with_gpus(harness, tmp_path_factory):
    """A harness on whose machine NVML finds what ``setting`` says."""

    def make(setting):
        folder = build(tmp_path_factory.mktemp("nvml"))
        before = os.environ.get("LD_LIBRARY_PATH")
        harness.env["LD_LIBRARY_PATH"] = f"{folder}:{before}" if before else str(folder)
        harness.env["SUBSTITUTE_NVML"] = setting
        harness.env.pop("CUDA_VISIBLE_DEVICES", None)
        return harness

    return make


def stored(harness):
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        return [json.loads(body) for (body,) in store.execute("select body from trials")]


@pytest.mark.alone
def test_gpus_are_sampled_in_the_window_and_energy_is_told_by_sample(with_gpus):
    harness = with_gpus("gpus=2,power=250,gpm=1")
    (cell,) = harness.lean_sweep(*ONE[:-1], "2", "--telemetry", "always")["cells"]
    usage = cell["usage"]
    assert usage["gpu_power"]["value"] == pytest.approx(500)
    assert usage["gpu_energy"]["value"] == pytest.approx(500 / cell["throughput"]["value"], rel=0.05)
    assert usage["gpu_energy"]["unit"] == "J/sample"
    assert 0 <= usage["gpu_utilization"]["value"] <= 1
    assert usage["gpu_sm_activity"]["value"] is not None
    assert cell["coverage"]["samples"] >= 4
    (trial,) = stored(harness)
    (node,) = trial["telemetry"]
    # Energy is read where its counter changes, about once a second outside warm-up and window.
    times = [at for series in node["series"] if series["name"] != "energy_j" for at in series["times_s"]]
    assert min(times) > node["began_s"] - 2 * node["interval_s"], "cut to the window, one sample more on either side"
    harness.nothing_left()


def test_a_gpu_that_is_hot_and_used_by_others_does_not_touch_a_cell_on_cpus(with_gpus):
    (cell,) = with_gpus("gpus=1,throttle=0.5,process=1").lean_sweep(*ONE, "--telemetry", "always")["cells"]
    assert (cell["outcome"], cell["reason"]) == ("ok", None)
    assert not {"gpu_thermal_throttling", "foreign_gpu_process"} & set(cell["flags"])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("gpus=1,fault=nvmlInitWithFlags:999", "NVML:"),
        ("gpus=1,fault=nvmlInitWithFlags:4", "permission"),
        ("gpus=1,lost=3", "lost"),
        ("gpus=2,mig=1", "MIG"),
    ],
)
def test_however_nvml_fails_the_sweep_goes_on_and_says_why(with_gpus, setting, said):
    (cell,) = with_gpus(setting).lean_sweep(*ONE, "--telemetry", "always")["cells"]
    assert cell["outcome"] == "ok"
    unknown = [reading for name, reading in cell["usage"].items() if name.startswith("gpu") and not reading["value"]]
    assert unknown
    assert all(reading["value"] is None and reading["reason"] for reading in unknown)
    assert any(said in reading["reason"] for reading in unknown), unknown


@pytest.mark.alone
def test_a_recorded_file_stands_in_for_the_devices_up_to_the_page(harness):
    recorded = h200_telemetry.write("power_capped", harness.folder / "recorded.jsonl")
    document = harness.lean_sweep(*ONE[:-1], "2", "--telemetry", f"replay:{recorded}")
    (cell,) = document["cells"]
    assert (cell["outcome"], cell["throughput"] is None) == ("ok", False)
    usage = cell["usage"]
    assert usage["gpu_power"]["value"] == pytest.approx(693, rel=0.02)
    assert usage["gpu_energy"]["value"] == pytest.approx(693 / cell["throughput"]["value"], rel=0.1)
    assert usage["gpu_power_capped"]["value"] == pytest.approx(0.82, abs=0.01)
    assert (usage["gpu_nvlink"]["value"], usage["gpu_nvlink"]["reason"]) == (None, h200_telemetry.UNSUPPORTED)
    page = (harness.folder / ".runs" / document["sweep"] / "report.html").read_text()
    for figure in ("Use of the GPU: ddp/gloo", "GPU power", "SM clock"):
        assert f"<h3>{figure}</h3>" in page
    assert "At the power limit — ddp/gloo: 82 %" in page


def test_a_gpu_that_is_too_hot_makes_the_trial_invalid(harness):
    lines = [Header(host="elsewhere", source="live", interval_s=0.2, devices=(Device(id="GPU-7", name="H200"),))]
    lines += [Tick(at_s=0.2 * n, readings=(Sample("GPU-7", "thermal_throttled_s", 0.1 * n),)) for n in range(300)]
    recorded = harness.folder / "recorded.jsonl"
    recorded.write_text("\n".join(line.model_dump_json() for line in lines))
    (cell,) = harness.lean_sweep(*ONE, "--telemetry", f"replay:{recorded}", status=4)["cells"]
    assert cell["outcome"] == "invalid"
    assert "slowed down by heat" in cell["reason"]
    assert cell["throughput"] is None
    assert "gpu_thermal_throttling" in cell["flags"]


@pytest.mark.alone
def test_hosts_ranks_and_the_harness_s_own_cost_are_told(harness):
    document = harness.sweep(*CELLS, "--ranks", "1,2")
    assert 0.5 < document["own_cost"]["value"] < 1.5
    assert document["own_cost"]["n"] == 3
    for cell in document["cells"]:
        usage = cell["usage"]
        assert 0.3 < usage["rank_cpu"]["value"] < 1.3, "one thread a rank, on one core"
        assert usage["rank_memory_peak"]["value"] > 50e6
        assert usage["host_cpu_busy"]["value"] > 0.5 * cell["ranks"]
        assert usage["cpu_energy"]["value"] is not None or usage["cpu_energy"]["reason"]
        assert "gpu_power" not in usage, "nobody computed on a GPU"
    for trial in stored(harness):
        cores = [tuple(rank["cores"]) for rank in trial["ranks"]]
        assert all(len(mine) == 1 for mine in cores)
        assert len(set(cores)) == len(cores), "each rank has cores of its own"
        assert all(rank["settled"] is not None for rank in trial["ranks"])
    page = (harness.folder / ".runs" / document["sweep"] / "report.html").read_text()
    assert "step timing and sampling take" in page
    assert "Usage of ranks, hosts and GPUs" in page


def test_without_telemetry_nothing_is_sampled(harness):
    (cell,) = harness.lean_sweep(*ONE, "--telemetry", "off")["cells"]
    assert cell["outcome"] == "ok"
    assert cell["coverage"] is None
    assert "host_cpu_busy" not in cell["usage"]
