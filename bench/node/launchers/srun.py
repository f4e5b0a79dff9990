"""srun: the steps of a Slurm job, of node agents or of MPI ranks, and what srun reports of their end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from bench.host.variables import BTL_VARIABLE, NO_TCP
from bench.node.rendezvous import RendezvousError, expand_nodes

KILL_AFTER_S = 10
FAILED_TASKS = re.compile(r"error: (\S+): tasks? ")
ENDED_BY_SRUN = re.compile(r"First task exited|forcing job termination|Job step aborted|STEP \S+ .*CANCELLED")
FAILED_TASK = re.compile(r"error: (\S+): tasks? (\d+)[^:]*: (.+)")


class SrunStep(NamedTuple):
    """One step of a job."""

    name: str
    nodes: int
    tasks_per_node: int
    cores_per_task: int
    mpi: str | None = None
    """How MPI ranks are wired up (``pmix``); ``None``: the tasks are no MPI ranks."""
    output: str | None = None
    """File name pattern of the tasks' output; ``None``: srun prints it."""


def srun_command(step: SrunStep, *, time_limit_s: float, exit_grace_s: float) -> tuple[str, ...]:
    """srun's argument list without the program that it starts (pure). Tasks are not bound to cores: ranks pin
    themselves.

    Args:
        step: What is started.
        time_limit_s: After this time the step is killed.
        exit_grace_s: How long the other tasks may run on after the first has ended, to report why.
    """
    options = {
        "job-name": step.name,
        "nodes": step.nodes,
        "ntasks": step.nodes * step.tasks_per_node,
        "ntasks-per-node": step.tasks_per_node,
        "cpus-per-task": step.cores_per_task,
        "mpi": step.mpi,
        "output": step.output,
        # A log that others shorten meanwhile.
        "open-mode": None if step.output is None else "append",
    }
    return (
        *("timeout", f"--kill-after={KILL_AFTER_S}", f"{time_limit_s:.0f}", "srun"),
        *(f"--{name}={value}" for name, value in options.items() if value is not None),
        *("--distribution=block", "--cpu-bind=none", "--overlap", "--kill-on-bad-exit=0"),
        f"--wait={exit_grace_s:.0f}",
    )


def mpi_environment(nodes: int) -> dict[str, str]:
    """The variables of Open MPI's ranks where no agent starts them (pure): on one node they don't listen."""
    return {BTL_VARIABLE: NO_TCP} if nodes == 1 else {}


def mpi_interface_environment(interface: str) -> dict[str, str]:
    """The variables that keep Open MPI and NCCL to a network interface, where no agent sets them for the ranks (pure).
    NCCL takes a bare name for the beginning of one."""
    open_mpi = {f"OMPI_MCA_{layer}_tcp_if_include": interface for layer in ("btl", "oob")}
    return {**open_mpi, "NCCL_SOCKET_IFNAME": f"={interface}"}


def hosts_of_failed_tasks(lines: Sequence[str]) -> set[str]:
    """The hosts of the tasks that srun reports as failed or killed, from its output (pure)."""
    hosts: set[str] = set()
    for found in filter(None, map(FAILED_TASKS.search, lines)):
        with suppress(RendezvousError):
            hosts.update(expand_nodes(found[1]))
    return hosts


def killed_tasks(lines: Sequence[str]) -> dict[str, str]:
    """What srun reports of the tasks that something else has killed, by host, from its output (pure).

    From where it ends the step itself on, nobody can tell.
    """
    killed: dict[str, str] = {}
    for line in lines:
        if ENDED_BY_SRUN.search(line):
            break
        if (found := FAILED_TASK.search(line)) and not found[3].startswith("Exited"):
            with suppress(RendezvousError):
                killed |= dict.fromkeys(expand_nodes(found[1]), found[3].strip())
    return killed


class FailedTask(NamedTuple):
    """A task that srun reports as failed. ``message``: in srun's words."""

    host: str
    rank: int
    message: str


def first_failed_task(lines: Sequence[str]) -> FailedTask | None:
    """The task that srun reports first, from its output (pure)."""
    found = next(filter(None, map(FAILED_TASK.search, lines)), None)
    return FailedTask(found[1], int(found[2]), found[3]) if found else None
