"""The cores, the memory and the device of a process.

A rank is pinned to as many cores as it has threads, whatever the number of ranks: the points of a scaling curve then
compare ranks with the same resources.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.core.case import Case
from bench.host.quota import CpuQuota, read_cpu_quota

OPEN_MPI_SEGMENT_BYTES = 2**24
"""Open MPI 5's default of ``btl_sm_segment_size``."""


def cores_of_rank(local_rank: int, threads: int, usable: Sequence[int]) -> tuple[int, ...]:
    """The cores of a rank on its machine (pure).

    Each rank gets the next ``threads`` cores after those of the ranks before it, starting over where there are more
    ranks than cores. A rank with more threads than there are cores gets all of them.

    Args:
        local_rank: The number of the rank on its machine.
        threads: Threads per rank.
        usable: The cores that ranks may run on.
    """
    first = local_rank * threads
    return tuple(sorted({usable[(first + number) % len(usable)] for number in range(min(threads, len(usable)))}))


def thread_cores() -> tuple[int, ...]:
    """The numbers of the cores that this thread may run on now; empty where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


# A library that is loaded later may pin the process (libgomp does with OMP_PROC_BIND), and so does this module.
_INHERITED_CORES = thread_cores()


def usable_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on, as they were when this module was imported: before any
    framework. Empty where the system does not say."""
    return _INHERITED_CORES


def parent_cores() -> tuple[int, ...]:
    """The cores that the parent of this process may run on; empty where the system does not say."""
    with suppress(OSError, AttributeError):
        return tuple(sorted(os.sched_getaffinity(os.getppid())))
    return ()


def usable_core_count() -> int:
    """How many cores' time this process may use: of the cores that it may run on, as many as its CPU quota allows.

    All of the machine's where the system does not say.
    """
    return cores_within_quota(len(usable_cores()) or os.cpu_count() or 1, read_cpu_quota())


def cores_within_quota(cores: int, quota: CpuQuota | None) -> int:
    """How many of ``cores`` threads may keep busy under a quota; one at least (pure).

    A part of a core is none: a thread that computes all the time would be stopped in every period.
    """
    return cores if quota is None else max(1, min(cores, math.floor(quota.cores)))


def pin_threads(cores: Sequence[int]) -> None:
    """Pin all threads of this process, and those that they start later, to ``cores``."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        # A thread may end while the others are pinned.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def compute_threads() -> int | None:
    """The threads that torch computes with in this thread; ``None`` where the process does not use torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return int(torch.get_num_threads())


def reset_memory_peak() -> None:
    """Restart the measurement of :func:`memory_peak_bytes` (Linux only): a forked process inherits its parent's
    peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def memory_peak_bytes() -> int:
    """The peak resident memory of this process, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def shared_memory_problem(env: Mapping[str, str], folder: Path = Path("/dev/shm")) -> str | None:
    """Why Open MPI 5 can't exchange through shared memory here, with the remedy, or ``None``.

    It takes a segment for each rank. Where there is no room it exchanges over TCP unasked, or aborts.

    Args:
        env: The environment variables of the rank, which may choose other ways, or another folder.
        folder: Where the segments are by default.
    """
    ways = env.get("OMPI_MCA_btl", "sm")
    if ("sm" in ways.removeprefix("^").split(",")) == ways.startswith("^"):
        return None
    folder = Path(env.get("OMPI_MCA_btl_sm_backing_directory") or folder)
    needed = int(env.get("OMPI_MCA_btl_sm_segment_size") or OPEN_MPI_SEGMENT_BYTES)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free >= needed:
        return None
    return (
        f"{folder} has {free / 2**20:.0f} MiB free, and Open MPI takes {needed / 2**20:.0f} MiB of it for each rank: "
        "enlarge it (docker run --shm-size=1g)"
    )


def lacking_gpu_problem(case: Case, local_rank: int, found: int) -> str | None:
    """Why a rank has no GPU on its node, with the remedy, or ``None`` (pure).

    Args:
        case: The case.
        local_rank: The number of the rank among those on its machine.
        found: The number of GPUs that PyTorch finds there.
    """
    if case.device == "cpu" or local_rank // case.ranks_per_gpu < found:
        return None
    if found == 0:
        return "PyTorch finds no GPU on this node: --device cpu, or see the driver and CUDA_VISIBLE_DEVICES there"
    share = -(-case.ranks_on_a_node // found)
    sharing = f"let {share} share a GPU over gloo (--set site.{case.site}.ranks_per_gpu={share})"
    gpus = f"{found} GPU{'s' * (found > 1)}"
    return f"{case.ranks_on_a_node} ranks on this node, and PyTorch finds {gpus}: use fewer ranks a node, or {sharing}"


def use_device(case: Case, local_rank: int) -> str:
    """The torch device of a rank; a GPU is made the current one of its process.

    Args:
        case: The case.
        local_rank: The number of the rank among those on its machine.

    Raises:
        RuntimeError: If there is no such GPU on this node.
    """
    device = case.device_of(local_rank)
    if device != "cpu":
        import torch

        if (problem := lacking_gpu_problem(case, local_rank, torch.cuda.device_count())) is not None:
            raise RuntimeError(problem)
        torch.cuda.set_device(device)
    return device


def device_name(device: str) -> str:
    """The device with its model: ``cpu``, or ``cuda:0 (NVIDIA …)``."""
    if device == "cpu":
        return "cpu"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def device_uuid(device: str) -> str | None:
    """The UUID of a GPU as NVML writes it; ``None`` for a CPU."""
    if device == "cpu":
        return None
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
