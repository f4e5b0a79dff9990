"""The processes on the GPUs of a node, each with whether it belongs to the trial, as the node's process tree shows."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.telemetry import GpuProcess
from bench.host.ownership import TrialProcessIds, judge, read_facts


def judge_processes(processes: Sequence[GpuProcess], trial: TrialProcessIds) -> tuple[GpuProcess, ...]:
    """The processes with :attr:`bench.core.telemetry.GpuProcess.ours`, by what this machine shows now.

    Args:
        processes: What probes have listed just now.
        trial: What the trial's processes descend from.
    """
    owners = {process.pid: judge(process.pid, read_facts(process.pid), trial) for process in processes}
    return tuple(
        process.model_copy(update={"ours": owners[process.pid].ours, "relation": owners[process.pid].relation})
        for process in processes
    )
