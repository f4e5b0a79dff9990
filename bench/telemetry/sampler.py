"""One process a node that watches it while the ranks work, and writes what it sees as it sees it.

It appends to ``telemetry-<node>-<host>.jsonl``, so that a sudden end costs nothing but the last line. Who computes on
the GPUs is asked before the ranks are ready and after they are gone, never in between.
"""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from bench.core.case import Case, Role
from bench.core.frozen_model import FrozenModel
from bench.core.telemetry import Header, ProcessCheck, Tick
from bench.host.resources import usable_cores
from bench.plugins.probe import Probe
from bench.telemetry.probes.host import HostProbe
from bench.telemetry.probes.nvml.probe import GpuProbe
from bench.telemetry.probes.replay import ReplayProbe

INTERVAL_S = 0.2
ROLE = Role(name="sampler", count=1, service=True, observer=True)
REPLAY_PREFIX = "replay:"


def run(case: Case, out: Path) -> None:
    """Sample until told to end (SIGTERM)."""
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    probes = choose_probes(case)
    # Watching is worth less than working: where a core is short, the ranks have it.
    os.nice(5)
    with (out / f"telemetry-{os.environ.get('RANK', '0')}-{platform.node()}.jsonl").open("a") as file:
        source = case.telemetry if case.telemetry.startswith(REPLAY_PREFIX) else "live"
        devices = tuple(device for probe in probes for device in probe.devices)
        problems = tuple(problem for probe in probes for problem in probe.problems)
        _append(
            file, Header(host=platform.node(), source=source, interval_s=INTERVAL_S, devices=devices, problems=problems)
        )
        _append(file, _check(probes))
        _sample(probes, stop, file, out)
        _append(file, _check(probes))
    for probe in probes:
        probe.close()


def choose_probes(case: Case) -> list[Probe]:
    """What to sample for a case: the host; GPUs where the ranks compute on them, or always; or a recorded file."""
    if case.telemetry.startswith(REPLAY_PREFIX):
        return [ReplayProbe(Path(case.telemetry.removeprefix(REPLAY_PREFIX)))]
    probes: list[Probe] = [HostProbe(usable_cores(), in_network_hub=case.net is not None)]
    if case.device == "cuda" or case.telemetry == "always":
        probes.append(GpuProbe())
    return probes


def _sample(probes: Sequence[Probe], stop: threading.Event, file: TextIO, out: Path) -> None:
    with _lock_file(out).open("a") as lock:
        next_sample_s = time.monotonic()
        while not stop.is_set():
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                readings = tuple(reading for probe in probes for reading in probe.read())
                _append(file, Tick(at_s=time.monotonic(), readings=readings))
                fcntl.flock(lock, fcntl.LOCK_UN)
            next_sample_s = max(next_sample_s + INTERVAL_S, time.monotonic())
            stop.wait(next_sample_s - time.monotonic())


@contextmanager
def pause_sampling(out: Path) -> Iterator[None]:
    """No sample is taken inside; if the process that asked for it dies, sampling goes on."""
    with _lock_file(out).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_file(out: Path) -> Path:
    return out / f"sampling-{platform.node()}.lock"


def _check(probes: Sequence[Probe]) -> ProcessCheck:
    results = [probe.processes() for probe in probes]
    return ProcessCheck(
        checked_at_s=time.monotonic(),
        processes=tuple(process for processes, _ in results for process in processes),
        problems=tuple(problem for _, problems in results for problem in problems),
    )


def _append(file: TextIO, value: FrozenModel) -> None:
    file.write(value.model_dump_json() + "\n")
    file.flush()
