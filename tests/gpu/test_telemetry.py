"""What NVML's readings are made of on this device: intervals, means, costs of calls, and short windows. About 30 s."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean, median, quantiles

import pytest

from bench.core.recording import Recording, cut_to_window
from bench.core.telemetry import LIVE, Header, Sample, Tick
from bench.telemetry.probes.nvml.intervals import MEASURED, measure_intervals
from bench.telemetry.probes.nvml.probe import GpuProbe
from bench.telemetry.probes.nvml.timings import TABLE
from bench.telemetry.sampler import INTERVAL_S
from reports.analysis.telemetry_window import TelemetryWindow
from tests.support import nvml_library

LIKE_AN_H200 = "update=0.1,energy_cost=0.0033,utilization_update=0.2,gpm=1"
SIZE = 8192
CALLS = 100


@pytest.fixture(scope="module")
def is_dry(request):
    return request.config.getoption("--dry-run")


@pytest.fixture(scope="module")
def nvml_device(is_dry, tmp_path_factory):
    """The first GPU as the probe reads it; in a dry run one of the substitute library."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    if is_dry:
        patch.setenv("SUBSTITUTE_NVML", LIKE_AN_H200)
        # By its name, a library that is loaded already is the one that the package finds.
        ctypes.CDLL(str(nvml_library.build(tmp_path_factory.mktemp("nvml")) / nvml_library.NAME))
    probe = GpuProbe({} if is_dry else os.environ)
    assert probe.devices, probe.problems
    yield probe._nvml_devices[0]
    probe.close()
    patch.undo()


@pytest.fixture
def load(device, is_dry):
    """A context in which the GPU multiplies matrices without a pause."""
    if is_dry:
        return _nothing
    import torch

    x = torch.randn(SIZE, SIZE, device=device, dtype=torch.bfloat16)
    (x @ x).sum().item()

    def multiply(stop: threading.Event) -> None:
        while not stop.is_set():
            for _ in range(10):
                torch.mm(x, x)
            torch.cuda.synchronize(device)

    @contextmanager
    def loaded() -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=multiply, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    return loaded


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def value_of(nvml_device, name):
    return lambda: nvml_device.query_quantity(name).value


def test_update_intervals(nvml_device, load, record_figure):
    """How often readings change: found on the device, idle and loaded, beside the table"""
    queries = {("GPU", name): value_of(nvml_device, name) for name in MEASURED}
    idle = measure_intervals(queries, lambda: False)
    with load():
        time.sleep(0.5)
        # The utilization changes too slowly for half a second, and only while kernels come and go.
        loaded = [measure_intervals(queries, lambda: False) for _ in range(4)]
    for name in MEASURED:
        note = f"table: {TABLE[name].update_s:g} s"
        if name in idle["GPU"]:
            record_figure(f"{name}, idle", idle["GPU"][name], "s", note=note)
        found = [run["GPU"][name] for run in loaded if name in run["GPU"]]
        if found:
            note = f"{note}; {len(found)} of 4 runs"
            record_figure(f"{name}, loaded", median(found), "s", min(found), max(found), note=note)
    assert {"power_w", "energy_j"} <= loaded[0]["GPU"].keys()


def seconds_of(call: Callable[[], object], times: int = CALLS) -> list[float]:
    spent = []
    for _ in range(times):
        began_s = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began_s)
        time.sleep(0.002)
    return spent


def test_costs_of_calls(nvml_device, record_figure):
    """What calls of NVML cost: each reading that is called alone, a tick of all, and energy by its schedule"""
    for name in MEASURED:
        spent_us = [1e6 * spent_s for spent_s in seconds_of(value_of(nvml_device, name))]
        record_figure(f"a call: {name}", median(spent_us), "µs", *quantiles(spent_us, n=40)[::38], note="95 % of calls")
    ticks_us = []
    for _ in range(15):
        time.sleep(INTERVAL_S)
        began_s = time.perf_counter()
        nvml_device.read()
        ticks_us.append(1e6 * (time.perf_counter() - began_s))
    record_figure("a tick", median(ticks_us), "µs", min(ticks_us), max(ticks_us), note="least and most of 15")
    for near_edge in (True, False):
        began_s, spent_s, calls = time.monotonic(), 0.0, 0
        while time.monotonic() < began_s + 2.5:
            due_s = nvml_device.energy_due_s(near_edge)
            time.sleep(min(max(0.0, due_s - time.monotonic()), 0.1))
            if nvml_device.energy_due_s(near_edge) <= time.monotonic():
                called_s = time.perf_counter()
                nvml_device.poll_energy()
                spent_s, calls = spent_s + time.perf_counter() - called_s, calls + 1
        where = "near the ends of a window" if near_edge else "far from them"
        record_figure(f"energy, share of a core {where}", spent_s / 2.5, "1", note=f"{calls} calls in 2.5 s")


def test_activity_needs_time(nvml_device, load, record_figure):
    """Activity by GPM: unknown below 0.2 s between two samples, and how it scatters above"""
    with load():
        time.sleep(0.5)
        nvml_device.read()
        time.sleep(0.3)
        nvml_device.read()
        time.sleep(0.05)
        soon = {sample.name: sample for sample in nvml_device.read()}["sm_activity"]
        if soon.reason is not None and "not supported" in soon.reason:
            pytest.skip("this device has no GPM")
        assert soon.value is None
        assert "needs 0.2 s" in soon.reason
        values = []
        for _ in range(15):
            time.sleep(0.2)
            values.append({sample.name: sample for sample in nvml_device.read()}["sm_activity"])
    known = [sample.value for sample in values if sample.value is not None]
    assert len(known) >= 14, [sample.reason for sample in values if sample.value is None]
    record_figure("SM activity over 0.2 s, loaded", fmean(known), "1", min(known), max(known), note="least and most")


def test_power_after_a_step(nvml_device, load, record_figure, is_dry):
    """Power after a step from idle to full load: of an instant, and as a mean over a second"""
    import pynvml

    handle, seconds = nvml_device._handle, 3.0
    time.sleep(0.1 if is_dry else 2.5)
    before = nvml_device.query_quantity("power_w").value, pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3
    polled = []
    with load():
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < seconds:
            instant = nvml_device.query_quantity("power_w").value
            polled.append((passed_s, instant, pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3))
            time.sleep(0.01)
    for number, kind in ((0, "instant"), (1, "mean over a second")):
        level = median(row[1 + number] for row in polled if row[0] > seconds - 1)
        for at_s in (0.1, 0.3, 0.5, 1.0):
            share = next(row[1 + number] - before[number] for row in polled if row[0] >= at_s)
            share = share / (level - before[number]) if level != before[number] else math.nan
            goal = {"at_least": 0.8} if kind == "instant" and at_s == 0.3 else {}
            record_figure(f"{kind}: share of the step after {at_s} s", share, "1", **goal)


def test_short_window(nvml_device, load, record_figure):
    """Readings over a window of 0.4 s, which have reasons, and over 2 s of the same recording"""
    timings = nvml_device.rely_on({})
    ticks = []
    with load():
        time.sleep(0.5)
        began_s = time.monotonic()
        next_tick_s = began_s
        while (now_s := time.monotonic()) < began_s + 3.0:
            readings: list[Sample] = (
                nvml_device.poll_energy() if nvml_device.energy_due_s(near_edge=True) <= now_s else []
            )
            if now_s >= next_tick_s:
                readings, next_tick_s = [*readings, *nvml_device.read()], next_tick_s + INTERVAL_S
            ticks.append(Tick(at_s=time.monotonic(), readings=tuple(readings)))
            time.sleep(0.002)
    header = Header(host="h", source=LIVE, interval_s=INTERVAL_S, devices=(nvml_device.device,), update_timings=timings)
    recording, gpu = Recording(header, tuple(ticks)), nvml_device.device.id
    short, long = (TelemetryWindow(cut_to_window(recording, began_s + 0.5, began_s + 0.5 + s)) for s in (0.4, 2.0))
    for name in ("power_w", "utilization"):
        assert short.mean(gpu, name).value is None
        assert "--window" in short.mean(gpu, name).reason
        record_figure(f"{name} over 2 s", long.mean(gpu, name).value, "W" if name == "power_w" else "1")
    energy = long.power(gpu, "energy_j")
    assert energy.value is not None, energy.reason
    record_figure("energy's power ÷ that of instants, 2 s", energy.value / long.mean(gpu, "power_w").value, "1")
