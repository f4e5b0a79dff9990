"""The probe of the host: cores, network, memory and energy, through psutil and the files of the kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import psutil

from bench.core.case import Case
from bench.core.telemetry import HOST, Device, Sample
from bench.core.update_timing import UpdateTiming
from bench.host.links import port_names, ranks_per_namespace
from bench.host.machine import host_name
from bench.host.quota import read_cpu_quota
from bench.host.resources import usable_cores
from bench.plugins.probe import Probe, ProbePlugin
from bench.telemetry.probes.host.cores import CORE_QUANTITIES, TICKS_PER_S, CoreReader
from bench.telemetry.probes.host.interfaces import NETWORK_QUANTITIES, NetworkReader
from bench.telemetry.probes.host.kernel_files import KernelFile, read_once
from bench.telemetry.probes.host.rapl import ENERGY_QUANTITY, RAPL_UPDATE_S, RaplEnergy
from bench.telemetry.probes.host.throttling import THROTTLING_QUANTITIES, ThrottlingReader

CLOCK_LINE = re.compile(rb"^cpu MHz\s*:\s*([\d.]+)", re.MULTILINE)
SWAP_LINE = re.compile(rb"^pswp(?:in|out) (\d+)", re.MULTILINE)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class HostProbe(Probe):
    """Counters and gauges of this machine.

    Args:
        cores: The numbers of the cores that the job may use, whose times are summed; empty: all cores.
        hub_ports: The interfaces to count where it runs in the hub of a trial's network; see
            :class:`bench.telemetry.probes.host.interfaces.NetworkReader`.
    """

    def __init__(self, cores: Sequence[int], hub_ports: Sequence[str] | None = None) -> None:
        self.devices = (Device(id=HOST, name=host_name()),)
        self._job = JobCpuTime(os.getppid())
        self._parts: list[tuple[tuple[str, ...], Callable[[], list[Sample]]]] = []
        """Names of quantities, and what reads them."""
        self._add(CORE_QUANTITIES, CoreReader(cores).read)
        self._add(THROTTLING_QUANTITIES, ThrottlingReader(read_cpu_quota()).read)
        self._add(("cpu_frequency_hz",), CoreFrequency().read)
        self._add(("job_cpu_s",), self._job.read)
        self._add(NETWORK_QUANTITIES, NetworkReader(hub_ports).read)
        self._add(("swapped_bytes",), SwapReader().read)
        energy = RaplEnergy()
        self._add((ENERGY_QUANTITY,), energy.read)
        if energy.packages:
            self.update_timings = (UpdateTiming(device=HOST, name=ENERGY_QUANTITY, update_s=RAPL_UPDATE_S),)

    def read(self) -> list[Sample]:
        return [sample for names, part in self._parts for sample in read_or_explain(names, part)]

    def _add(self, names: tuple[str, ...], part: Callable[[], list[Sample]]) -> None:
        self._parts.append((names, part))


def read_or_explain(names: Sequence[str], part: Callable[[], list[Sample]]) -> list[Sample]:
    """What ``part`` reads of the host; where it raises, quantities ``names`` are unknown because of that.

    A file of the kernel may be hidden, or a library may not know this system: that costs one reading, not the others.
    """
    try:
        return part()
    except Exception as problem:
        return [Sample(HOST, name, None, f"{type(problem).__name__}: {problem}") for name in names]


def _unavailable(name: str, reason: str) -> list[Sample]:
    return [Sample(HOST, name, None, reason)]


class CoreFrequency:
    """The mean clock of all cores.

    Args:
        proc: The folder that ``/proc`` is.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._file = KernelFile(proc / "cpuinfo")

    def read(self) -> list[Sample]:
        """The clock now, in Hz."""
        # psutil reads this file too, and three more for each core, which are of no use here.
        listed = self._listed_mhz()
        if not listed:
            try:
                frequency = psutil.cpu_freq()
            except (OSError, NotImplementedError):
                frequency = None
            listed = [frequency.current] if frequency else []
        if not any(listed):
            return _unavailable("cpu_frequency_hz", "this machine does not report it")
        return [Sample(HOST, "cpu_frequency_hz", fmean(listed) * 1e6)]

    def _listed_mhz(self) -> list[float]:
        """The clocks in ``/proc/cpuinfo``, which lists none of an ARM core's."""
        try:
            content = self._file.read()
        except OSError:
            return []
        return [float(match) for match in CLOCK_LINE.findall(content)]


class SwapReader:
    """What was swapped in and out since the machine started.

    Args:
        proc: The folder that ``/proc`` is.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._file = KernelFile(proc / "vmstat")

    def read(self) -> list[Sample]:
        """The bytes so far."""
        try:
            pages = [int(match) for match in SWAP_LINE.findall(self._file.read())]
        except OSError:
            pages = []
        if not pages:
            return _unavailable("swapped_bytes", "this kernel does not report it")
        return [Sample(HOST, "swapped_bytes", float(sum(pages) * PAGE_BYTES))]


class JobCpuTime:
    """The processor time of a trial: of the processes that have the same parent as the sampler, and their descendants.

    Args:
        parent: The process id of the parent.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.spent_s: dict[int, float] = {}

    def read(self) -> list[Sample]:
        """The time so far, in seconds."""
        try:
            pids = _children(self.parent)
        except OSError:
            return _unavailable("job_cpu_s", "this kernel does not list a process's children")
        for pid in pids:
            # The time of a process that ends still counts, so that the sum never falls.
            with suppress(OSError, IndexError, ValueError):
                after_name = read_once(f"/proc/{pid}/stat").rpartition(b")")[2].split()
                self.spent_s[pid] = (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S
                pids += _children(pid)
        return [Sample(HOST, "job_cpu_s", sum(self.spent_s.values()))]


def _children(pid: int) -> list[int]:
    return [int(child) for child in read_once(f"/proc/{pid}/task/{pid}/children").split()]


def open_probe(case: Case) -> HostProbe:
    """The host is sampled for every case."""
    ports = None if case.net is None else port_names(case.ranks // ranks_per_namespace(case))
    return HostProbe(usable_cores(), ports)


PROBE = ProbePlugin("cores, network, memory and energy of the host", open_probe)
