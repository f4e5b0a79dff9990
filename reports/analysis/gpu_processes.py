"""Processes of others on the GPUs of a trial: what computes there makes a trial invalid, what draws a little is named.

Whether a process belongs to the trial was decided on the node when it was listed (:mod:`bench.host.ownership`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.core.records import MIB, Condition, RankRecord
from bench.core.telemetry import GpuProcess, NodeTelemetry
from bench.core.text import one_line

MAX_DISPLAY_BYTES = 1024 * MIB
PROCESS_NAME_LENGTH = 15
"""The kernel cuts the names of processes off here."""
MAX_NAMED = 3
MAX_NAME = 60
"""Of a process, in characters."""
SERVICES = frozenset(
    name[:PROCESS_NAME_LENGTH] for name in ("nvidia-cuda-mps-server", "nvidia-cuda-mps-control", "nvidia-persistenced")
)
"""Processes on a GPU that compute nothing themselves: NVIDIA's MPS server hands on the work of its clients, which are
listed beside it."""


def foreign_gpu_processes(
    node: NodeTelemetry, host: str, used: Sequence[str], ranks: Sequence[RankRecord]
) -> Iterator[Condition]:
    """The conditions of processes on the GPUs of a node that belong neither to the trial nor to the driver.

    Args:
        node: The telemetry of the node.
        host: What the node is called.
        used: The ids of the devices that its ranks computed on.
        ranks: The records of the ranks on it.
    """
    whole = {device.id: device.part_of or device.id for device in node.devices}
    gpus = {whole.get(device, device) for device in used}
    own_pids = {rank.pid for rank in ranks}
    others = [
        process
        for process in node.processes
        if (process.device in used or process.device in gpus)
        and process.ours is not True
        and process.pid not in own_pids
        and (process.name or "")[:PROCESS_NAME_LENGTH] not in SERVICES
    ]
    drawing = [process for process in others if _only_draws(process)]
    hidden = _hidden_ranks(node, others, [(rank.pid, whole.get(rank.gpu or "", rank.gpu)) for rank in ranks])
    computing = [process for process in others if process not in drawing and process not in hidden]
    if computing:
        description = f"{host}: other processes computed on the GPUs: {_named(computing)}"
        yield Condition(name="foreign_gpu_process", seen=description, serious=True)
    if drawing:
        yield Condition(name="gpu_draws", seen=f"{host}: other processes drew on the GPUs: {_named(drawing)}")


def _hidden_ranks(
    node: NodeTelemetry, others: Sequence[GpuProcess], ranks: Sequence[tuple[int, str | None]]
) -> list[GpuProcess]:
    """The processes that are taken for ranks under other process ids: in a container NVML may list those of its host.

    Of the processes on a GPU that were not visible on the node, they are as many as ranks on that GPU were not listed.

    Args:
        node: The telemetry of the node.
        others: Those of its processes that are not known to be the trial's.
        ranks: The process ids of the ranks on the node, each with its whole GPU.
    """
    listed = {(process.pid, process.device) for process in node.processes}
    missing = Counter(gpu for pid, gpu in set(ranks) if (pid, gpu) not in listed)
    hidden: list[GpuProcess] = []
    for process in others:
        if process.ours is None and process.relation and missing[process.device]:
            missing[process.device] -= 1
            hidden.append(process)
    return hidden


def _only_draws(process: GpuProcess) -> bool:
    """Whether it is the server of a display: one that computes for itself needs more memory."""
    return process.draws and process.memory_bytes is not None and process.memory_bytes <= MAX_DISPLAY_BYTES


def _named(processes: Sequence[GpuProcess]) -> str:
    named = [
        " ".join(
            filter(None, (str(process.pid), process.name and f"({one_line(process.name, MAX_NAME)})", process.relation))
        )
        for process in processes[:MAX_NAMED]
    ]
    more = f" and {len(processes) - MAX_NAMED} more" if len(processes) > MAX_NAMED else ""
    return "; ".join(dict.fromkeys(named)) + more
