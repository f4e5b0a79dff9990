"""How the processes of a trial ended on a node: what its agent reports before it removes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts

MPIRUN = "mpirun"
TORCHRUN = "torchrun"
FORKSERVER = "forkserver"
UNNUMBERED = (FORKSERVER,)
"""Roles that a machine has one process of."""


@dataclass(frozen=True)
class FailedProcess:
    """A process that failed.

    ``role`` is the launcher's name where a launcher failed, since it stands for all ranks that it started.
    """

    role: str
    number: int
    status: int | None
    """The exit status, below 0 for a signal; ``None`` where it is unknown."""
    log: Path
    at: float = 0.0
    """When the failure was noticed, in seconds since the Unix epoch."""

    @property
    def title(self) -> str:
        return self.role if self.role in UNNUMBERED else f"{self.role} {self.number}"


@dataclass(frozen=True)
class ExitReport:
    """How a trial ended on one machine, or on all machines together."""

    timed_out: bool
    timeout_s: float
    failed: tuple[FailedProcess, ...] = ()
    """The processes that failed, in the order in which they failed."""
    stopped: tuple[str, ...] = ()
    """Titles of the processes that are stopped by a signal (SIGSTOP): those of roles, launchers, the forkserver."""
    stacks: Mapping[str, list[str]] = field(default_factory=dict)
    """The stack dump of each process that had not ended, in lines, by its title."""
    out_of_memory: bool = False
    """The kernel killed a process for lack of memory while the trial ran."""
    memory_limit: str = ""
    """The limit of a control group that was reached then; empty where it was the machine's memory, or that is not
    known."""
    cpu_limit_s: int | None = None
    """The CPU time that a process may use, in seconds; ``None``: there is no such limit."""
    disk_full: bool = False
    """The disk of the trial's folder had no space left when a process failed, or the time was up."""
    cancelled: bool = False
    """The trial was asked to end."""
    suspended: tuple[str, ...] = ()
    """What did not run for a while, in sentences: a process that was stopped and continued, or the whole node."""
    stopped_at: Mapping[str, float] = field(default_factory=dict)
    """Since when each of :attr:`stopped` has been seen so, in seconds since the Unix epoch."""
    lost_observers: Mapping[int, str] = field(default_factory=dict)
    """What became of observers that did not observe to the end, by their number: ``it was killed by SIGKILL``."""
    left_running: tuple[str, ...] = ()
    """Processes that left the sessions of the trial and outlived what had started them; they were ended."""
    dropped_log_bytes: Mapping[str, int] = field(default_factory=dict)
    """How much of the log of each process was dropped because it was too long, by its title."""

    @property
    def succeeded(self) -> bool:
        return not (self.timed_out or self.failed or self.stopped or self.suspended or self.cancelled)


class NodeReport(FrozenModel):
    """The report of one node: what its agent writes as its last act."""

    facts: NodeFacts
    exit_report: ExitReport | None = None
    problem: str | None = None
    """Why the agent started no rank at all."""

    @property
    def file(self) -> str:
        """The name of the report's file in the trial's folder."""
        return f"node-{self.facts.node}.json"
