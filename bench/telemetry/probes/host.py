"""The probe of the host: cores, network, memory and energy, through psutil and the files of the kernel."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.core.case import Case
from bench.core.telemetry import HOST, Device, Sample
from bench.host.resources import usable_cores
from bench.plugins.probe import Probe, ProbePlugin

POWERCAP_FOLDER = Path("/sys/class/powercap")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOOPBACKS = ("lo", "lo0")


class HostProbe(Probe):
    """Counters and gauges of this machine.

    Args:
        cores: The cores that the job may use, whose times are summed; empty: all cores.
        powercap: The folder of RAPL's counters.
        in_network_hub: Whether it runs in the hub of a trial's network (:mod:`bench.host.links`). The ports of the hub
            carry what the nodes send and receive, and each transfer is counted at both ends, as on separate machines.
    """

    def __init__(
        self, cores: tuple[int, ...], powercap: Path = POWERCAP_FOLDER, *, in_network_hub: bool = False
    ) -> None:
        self.devices = (Device(id=HOST, name=platform.node()),)
        self.cores = cores
        self.in_network_hub = in_network_hub
        self.job = JobCpuTime(os.getppid())
        self.energy = RaplEnergy(powercap)

    def read(self) -> list[Sample]:
        return [*self._read_cores(), self.job.read(), *self._read_network(), _read_swap(), self.energy.read()]

    def _read_cores(self) -> list[Sample]:
        count, busy_s, stolen_s = sum_core_times(psutil.cpu_times(percpu=True), self.cores)
        steal = Sample(HOST, "cpu_steal_s", stolen_s)
        if sys.platform != "linux":
            steal = _unavailable("cpu_steal_s", "only Linux reports it")
        return [Sample(HOST, "cores", count), Sample(HOST, "cpu_busy_s", busy_s), steal, _read_frequency()]

    def _read_network(self) -> list[Sample]:
        interfaces = psutil.net_io_counters(pernic=True)
        bytes_by_interface = {name: counters.bytes_sent + counters.bytes_recv for name, counters in interfaces.items()}
        loopback = sum(count for name, count in bytes_by_interface.items() if name in LOOPBACKS)
        outward = sum(count for name, count in bytes_by_interface.items() if name not in LOOPBACKS)
        # What is sent on the loopback interface is received on it: each byte is counted twice.
        inward = Sample(HOST, "loopback_bytes", loopback / 2)
        if self.in_network_hub:
            inward = _unavailable("loopback_bytes", "each node is a namespace with a loopback of its own")
        return [Sample(HOST, "network_bytes", outward), inward]


class CoreTimes(NamedTuple):
    """Times that were summed over some cores, in seconds since the machine started."""

    cores: int
    busy_s: float
    stolen_s: float


def sum_core_times(all_cores: Sequence[Any], cores: Sequence[int]) -> CoreTimes:
    """Sum the times of some cores (pure).

    A core that waits for a disk is not busy, and neither is one that the hypervisor has taken away. The time of guests
    is part of the user time already.

    Args:
        all_cores: What ``psutil.cpu_times(percpu=True)`` returns.
        cores: The numbers of the cores; empty: all of them.
    """
    used = [all_cores[core] for core in cores if core < len(all_cores)] or all_cores
    idle = sum(times.idle + getattr(times, "iowait", 0.0) for times in used)
    stolen = sum(getattr(times, "steal", 0.0) for times in used)
    guests = sum(getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0) for times in used)
    return CoreTimes(len(used), sum(sum(times) for times in used) - idle - stolen - guests, stolen)


def _unavailable(name: str, reason: str) -> Sample:
    return Sample(HOST, name, None, reason)


def _read_frequency() -> Sample:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        frequency = None
    if not frequency or not frequency.current:
        return _unavailable("cpu_frequency_hz", "this machine does not report it")
    return Sample(HOST, "cpu_frequency_hz", frequency.current * 1e6)


def _read_swap() -> Sample:
    try:
        pages = [
            int(line.split()[1])
            for line in Path("/proc/vmstat").read_text().splitlines()
            if line.startswith(("pswpin ", "pswpout "))
        ]
    except OSError:
        pages = []
    if not pages:
        return _unavailable("swapped_bytes", "this kernel does not report it")
    return Sample(HOST, "swapped_bytes", sum(pages) * os.sysconf("SC_PAGE_SIZE"))


class JobCpuTime:
    """The processor time of a trial: of the processes that have the same parent as the sampler, and their descendants.

    Args:
        parent: The process id of the parent.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.spent_s: dict[int, float] = {}

    def read(self) -> Sample:
        """The time so far, in seconds."""
        try:
            pids = _children(self.parent)
        except OSError:
            return _unavailable("job_cpu_s", "this kernel does not list a process's children")
        for pid in pids:
            # The time of a process that ends still counts, so that the sum never falls.
            with suppress(OSError, IndexError, ValueError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self.spent_s[pid] = (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S
                pids += _children(pid)
        return Sample(HOST, "job_cpu_s", sum(self.spent_s.values()))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class RaplEnergy:
    """The energy of all CPU packages, by RAPL's counters, each of which wraps around at its own maximum.

    Args:
        folder: The folder of the counters.
    """

    def __init__(self, folder: Path) -> None:
        self.zones = sorted(folder.glob("intel-rapl:[0-9]*")) if folder.is_dir() else []
        # ``intel-rapl:0:1`` is part of ``intel-rapl:0``.
        self.zones = [zone for zone in self.zones if zone.name.count(":") == 1]
        self.last: dict[Path, int] = {}
        self.total_uj = 0

    def read(self) -> Sample:
        """The energy since the first reading, in joules."""
        if not self.zones:
            return _unavailable("cpu_energy_j", "no RAPL counters on this machine")
        try:
            for zone in self.zones:
                now = int((zone / "energy_uj").read_text())
                increase = now - self.last.get(zone, now)
                self.total_uj += (
                    increase if increase >= 0 else increase + int((zone / "max_energy_range_uj").read_text())
                )
                self.last[zone] = now
        except PermissionError:
            return _unavailable("cpu_energy_j", "no permission to read RAPL's counters (root only by default)")
        except (OSError, ValueError) as problem:
            return _unavailable("cpu_energy_j", f"RAPL's counters can't be read: {problem}")
        return Sample(HOST, "cpu_energy_j", self.total_uj / 1e6)


def open_probe(case: Case) -> HostProbe:
    """The host is sampled for every case."""
    return HostProbe(usable_cores(), in_network_hub=case.net is not None)


PROBE = ProbePlugin("cores, network, memory and energy of the host", open_probe)
