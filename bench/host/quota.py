"""The CPU quota of this process: how much processor time its control groups allow, and how often it was used up.

Containers and batch systems limit processor time (``docker --cpus``, Kubernetes' ``limits.cpu``) by a quota for each
period of some 100 ms. A job that has used it up is stopped until the next period, whatever cores are idle. See
``scheduler/sched-bwc.rst`` of the kernel's documentation.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.host.control_groups import own_groups


class CpuQuota(NamedTuple):
    """The tightest quota among the control groups of a process."""

    cores: float
    """Processor time that it allows per time."""
    group: Path
    """The folder of the group."""


class Throttling(NamedTuple):
    """How often a group used up its quota, since the group was made."""

    periods: int
    """Periods in which the group had something to run."""
    throttled_periods: int
    throttled_s: float
    """How long its threads were stopped, summed over the cores."""


def read_cpu_quota(root: Path = Path("/")) -> CpuQuota | None:
    """The quota of this process; ``None`` where there is none, or the system does not say.

    Args:
        root: The folder that ``/`` is.
    """
    quotas = []
    with suppress(OSError, ValueError, LookupError):
        for group in own_groups("cpu", root):
            cores = _read_limit(group)
            if cores is not None:
                quotas.append(CpuQuota(cores, group))
    # Of groups with the same limit the innermost counts this process's own throttling.
    return min(quotas, key=lambda quota: quota.cores, default=None)


def read_throttling(group: Path) -> Throttling:
    """How often a group used up its quota.

    Raises:
        OSError: If the group is gone.
        ValueError: If the kernel does not count it.
    """
    counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines() if line)
    if "nr_periods" not in counts:
        raise ValueError("this kernel does not count throttled periods")
    version_2 = "throttled_usec" in counts
    stopped_s = int(counts["throttled_usec"]) / 1e6 if version_2 else int(counts["throttled_time"]) / 1e9
    return Throttling(int(counts["nr_periods"]), int(counts["nr_throttled"]), stopped_s)


def _read_limit(group: Path) -> float | None:
    """The quota of one group, in cores; ``None`` where it has none."""
    with suppress(OSError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        return None if quota_us <= 0 else quota_us / int((group / "cpu.cfs_period_us").read_text())
    return None
