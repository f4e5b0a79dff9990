"""Busy and stolen time of the cores that a job may use, from ``/proc/stat``.

Cores are known by their numbers, which have gaps where cores are offline. Inside a container lxcfs may replace the
file: it then lists the container's cores only, numbered from 0, whatever their numbers on the machine are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.core.telemetry import HOST, Sample
from bench.telemetry.probes.host.kernel_files import KernelFile

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CORE_QUANTITIES = ("cores", "cpu_busy_s", "cpu_steal_s")


class CoreTimes(NamedTuple):
    """Times of one core, or of several together, in seconds since the machine started."""

    busy_s: float
    stolen_s: float
    total_s: float
    """Idle time included."""


class UnknownCores(LookupError):
    """The lines of ``/proc/stat`` can't be assigned to the cores of the job. The text says why."""


class CoreReader:
    """Reads the times of some cores.

    Args:
        usable: The numbers of the cores that the job may use; empty: all cores.
        proc: The folder that ``/proc`` is.
    """

    def __init__(self, usable: Sequence[int], proc: Path = Path("/proc")) -> None:
        self.usable, self.proc = tuple(usable), proc
        self.container = read_container_cores(proc)
        self._stat = KernelFile(proc / "stat")

    def read(self) -> list[Sample]:
        """The number of the cores, and their busy and stolen time so far."""
        if sys.platform != "linux":
            return self._read_all_cores()
        listed = parse_core_times(self._stat.read().decode(), TICKS_PER_S)
        count = Sample(HOST, "cores", float(len(self.usable) or len(listed)))
        try:
            times = sum_core_times(listed, self.usable, self.container)
        except UnknownCores as problem:
            return [count, *(Sample(HOST, name, None, str(problem)) for name in CORE_QUANTITIES[1:])]
        return [count, Sample(HOST, "cpu_busy_s", times.busy_s), Sample(HOST, "cpu_steal_s", times.stolen_s)]

    def _read_all_cores(self) -> list[Sample]:
        cores = psutil.cpu_times(percpu=True)
        return [
            Sample(HOST, "cores", float(len(cores))),
            Sample(HOST, "cpu_busy_s", sum(sum(times) - times.idle for times in cores)),
            Sample(HOST, "cpu_steal_s", None, "only Linux reports it"),
        ]


def parse_core_times(text: str, ticks_per_s: float) -> dict[int, CoreTimes]:
    """The times of each core in the text of ``/proc/stat``, by the number that it has there (pure).

    A core that waits for a disk is not busy, and neither is one that the hypervisor has taken away. The time of guests
    is part of the user time already. See ``proc_stat(5)``.
    """
    times = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdecimal():
            # user nice system idle iowait irq softirq steal; older kernels leave out the last ones
            columns = [int(column) / ticks_per_s for column in rest.split()[:8]]
            columns += [0.0] * (8 - len(columns))
            stolen = columns[7]
            times[int(name[3:])] = CoreTimes(sum(columns) - columns[3] - columns[4] - stolen, stolen, sum(columns))
    return times


def sum_core_times(
    listed: Mapping[int, CoreTimes], usable: Collection[int], container: Collection[int] | None = None
) -> CoreTimes:
    """Sum the times of the cores that a job may use (pure).

    Args:
        listed: The times by the numbers of ``/proc/stat``.
        usable: The numbers of the cores as the scheduler knows them; empty: all cores.
        container: The container's cores where ``/proc/stat`` is a container's own; ``None``: it is the machine's.

    Raises:
        UnknownCores: If the lines can't be assigned to the cores, or count nothing.
    """
    # Without a mount on the file its numbers are the scheduler's. If they are not, as many lines as cores are these.
    for numbers in (container,) if container is not None else (listed, usable):
        if len(numbers) == len(listed) and set(usable) <= set(numbers):
            line_of = dict(zip(sorted(numbers), sorted(listed), strict=True))
            chosen = [listed[line_of[number]] for number in usable or numbers]
            total = CoreTimes(*(sum(column) for column in zip(*chosen, strict=True))) if chosen else CoreTimes(0, 0, 0)
            if total.total_s == 0:
                raise UnknownCores("this kernel's /proc/stat counts no time of cores")
            return total
    raise UnknownCores(
        f"/proc/stat lists cores {_ranges(listed)}, the job may use {_ranges(usable)}: which are the same is unknown"
    )


def read_container_cores(proc: Path = Path("/proc")) -> tuple[int, ...] | None:
    """The cores of the container whose own ``/proc/stat`` this is; ``None`` where the file is the machine's."""
    try:
        mounts = (proc / "self/mountinfo").read_text().splitlines()
        if not any(line.split()[4:5] == ["/proc/stat"] for line in mounts):
            return None
        # lxcfs shows the cores of the container's first process.
        status = (proc / "1/status").read_text().splitlines()
        return parse_core_list(next(line.split()[1] for line in status if line.startswith("Cpus_allowed_list:")))
    except (OSError, StopIteration, IndexError, ValueError):
        return None


def parse_core_list(text: str) -> tuple[int, ...]:
    """The numbers in a list of cores as the kernel writes it: ``0-2,8`` → 0, 1, 2, 8."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return tuple(numbers)


def _ranges(numbers: Collection[int]) -> str:
    """As the kernel writes a list of cores: 0, 1, 2, 8 → ``0-2,8``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
