"""Which cores a rank may use: as many as it has threads, whatever the rank count, so that a curve compares alike.

What a rank's own process uses, and of which device.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def cores_of_rank(local_rank: int, threads: int, usable: Sequence[int]) -> tuple[int, ...]:
    """The cores of a rank on its host (pure): the next ``threads`` after the ranks before it, from the start again
    where there are more ranks than cores. More threads than cores get all of them."""
    first = local_rank * threads
    return tuple(sorted({usable[(first + number) % len(usable)] for number in range(min(threads, len(usable)))}))


def usable_cores() -> tuple[int, ...]:
    """The cores this process may run on; none where the system has no such notion."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def pin_threads(cores: Sequence[int]) -> None:
    """Put every thread of this process, and those it starts later, onto ``cores``."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        # A thread may end while the others are being moved.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def reset_memory_peak() -> None:
    """The peak counts from here: a forked process starts with its parent's (Linux; elsewhere it stays)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def memory_peak_bytes() -> int:
    """The most that was resident in this process, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: str) -> str:
    """``cpu``, or ``cuda:0 (NVIDIA …)``."""
    if device == "cpu":
        return "cpu"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def device_uuid(device: str) -> str | None:
    """The GPU's UUID as NVML writes it; ``None`` on a CPU."""
    if device == "cpu":
        return None
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
