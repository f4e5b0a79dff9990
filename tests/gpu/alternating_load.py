"""A load that is busy for a share of each period, and the counter of energy beside it, on a GPU or simulated."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.core.telemetry import NodeTelemetry, Series
from bench.host.resources import device_uuid
from reports.analysis.energy_alias import GPU_SAMPLING
from tests.support.energy_counter import BUSY_W, GPU, IDLE_W, UPDATE_S, telemetry_of

SIDE = 4096
LEAD_S = 0.3
"""How long the load runs before and after each window, so that the counter changes near both of its ends."""


class BusyGpu:
    """Enqueues products of matrices that take about as long as is asked for."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.left = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
        self.output = torch.empty_like(self.left)
        self.product_s = 1e-3
        for _ in range(3):
            # Under the load itself: a cold GPU multiplies faster than one at its power limit.
            self.product_s = self._measure()

    def __call__(self, busy_s: float) -> None:
        for _ in range(max(1, round(busy_s / self.product_s))):
            self.torch.mm(self.left, self.left, out=self.output)

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    def _measure(self, products: int = 400) -> float:
        began, ended = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(products):
            self.torch.mm(self.left, self.left, out=self.output)
        ended.record()
        self.torch.cuda.synchronize()
        return began.elapsed_time(ended) / 1e3 / products


class SimulatedGpu:
    """Stands for a GPU and its counter in a dry run: what it is busy with, by the host's clock."""

    def __init__(self) -> None:
        self.busy: list[tuple[float, float]] = []
        self.began_s = self.counted_s = time.monotonic()
        self.joules = 0.0

    def __call__(self, busy_s: float) -> None:
        now = time.monotonic()
        self.busy.append((now, now + busy_s))

    def wait(self) -> None:
        return

    def read(self) -> float:
        """The counter, as reports/analysis/energy_alias.py describes it."""
        now = time.monotonic()
        while self.counted_s + UPDATE_S <= now:
            looks = round(UPDATE_S / GPU_SAMPLING.period_s)
            ends = [self.counted_s + (look + 1) * GPU_SAMPLING.period_s for look in range(looks)]
            self.joules += GPU_SAMPLING.period_s * sum(self._mean_power(end) for end in ends)
            self.counted_s += UPDATE_S
            # In place: another thread appends to it.
            del self.busy[: sum(ended < self.counted_s - UPDATE_S for _, ended in tuple(self.busy))]
        return self.joules

    def _mean_power(self, end_s: float) -> float:
        begin_s = end_s - GPU_SAMPLING.seen_s
        busy_s = sum(max(0.0, min(ended, end_s) - max(began, begin_s)) for began, ended in tuple(self.busy))
        return IDLE_W + (BUSY_W - IDLE_W) * busy_s / GPU_SAMPLING.seen_s


@contextmanager
def open_gpu(device: Any) -> Iterator[tuple[Any, Callable[[], float]]]:
    """What makes the GPU busy for a time, and what reads its counter in J."""
    if device.type == "cpu":
        simulated = SimulatedGpu()
        yield simulated, simulated.read
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(device_uuid(str(device)))
        yield BusyGpu(), lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    finally:
        pynvml.nvmlShutdown()


class CounterReader(threading.Thread):
    """Reads the counter without a break, and keeps its changes: midway between two calls that returned other values."""

    def __init__(self, read: Callable[[], float], pause_s: float) -> None:
        super().__init__(daemon=True)
        self.read, self.pause_s, self.changes, self.call_s = read, pause_s, [], []
        self._over = threading.Event()

    def run(self) -> None:
        before, before_s = self.read(), time.monotonic()
        while not self._over.wait(self.pause_s):
            began_s = time.monotonic()
            joules, at_s = self.read(), time.monotonic()
            self.call_s.append(at_s - began_s)
            if joules != before:
                self.changes.append(((before_s + at_s) / 2, joules))
            before, before_s = joules, at_s

    def end(self) -> None:
        self._over.set()
        self.join()


def measure(
    busy: Any, read: Callable[[], float], window_s: float, periods: Iterator[float], busy_share: float = 0.5
) -> tuple[NodeTelemetry, list[float], list[float]]:
    """A window of a load: its telemetry, the lengths of its periods, and the durations of calls of the counter.

    Args:
        busy: Makes the GPU busy for so many seconds.
        read: Reads the counter.
        window_s: The length of the window.
        periods: The length of each period, in seconds.
        busy_share: The share of each period in which it is busy.
    """
    reader = CounterReader(read, pause_s=0.002)
    reader.start()
    began_s = time.monotonic()
    next_s, starts = began_s, []
    while next_s < began_s + window_s + 2 * LEAD_S:
        while time.monotonic() < next_s - 2e-4:
            time.sleep(1e-4)
        while time.monotonic() < next_s:
            pass
        length_s = next(periods)
        starts.append(time.monotonic())
        busy(busy_share * length_s)
        next_s += length_s
    busy.wait()
    reader.end()
    first = next(number for number, at_s in enumerate(starts) if at_s >= began_s + LEAD_S)
    last = max(number for number, at_s in enumerate(starts) if at_s <= began_s + LEAD_S + window_s)
    inside = starts[first : last + 1]
    times, joules = zip(*reader.changes, strict=True)
    series = Series(device=GPU, name="energy_j", times_s=times, values=joules)
    lengths = [later - earlier for earlier, later in itertools.pairwise(inside)]
    return telemetry_of(series, inside[0], inside[-1]), lengths, reader.call_s
