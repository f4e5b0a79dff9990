"""What there is to see where a trial's processes end, before they are cleared away: values that a node sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts

MPIRUN = "mpirun"
TORCHRUN = "torchrun"


@dataclass(frozen=True)
class FailedProcess:
    """A process that has ended badly: ``status`` as Python gives it, below 0 for a signal, ``None`` where nobody was
    told. A launcher goes by its own name, since it stands for all its ranks."""

    role: str
    number: int
    status: int | None
    log: Path
    at: float = 0.0
    """When that was noticed, in seconds of the Unix epoch."""

    @property
    def title(self) -> str:
        return f"{self.role} {self.number}"


@dataclass(frozen=True)
class ExitReport:
    """What was found when the trial ended on a machine, or on all of them."""

    timed_out: bool
    timeout_s: float
    failed: tuple[FailedProcess, ...] = ()
    """Those that ended badly, the first one first."""
    stopped: tuple[str, ...] = ()
    """Titles of processes that somebody has stopped."""
    stacks: Mapping[str, list[str]] = field(default_factory=dict)
    out_of_memory: bool = False
    """The kernel ended a process for lack of memory meanwhile."""
    cancelled: bool = False
    """It was told to end."""

    @property
    def succeeded(self) -> bool:
        return not (self.timed_out or self.failed or self.cancelled)


class NodeReport(FrozenModel):
    """The last word of a node beyond the harness's machine."""

    facts: NodeFacts
    exit_report: ExitReport | None = None
    problem: str | None = None
    """Why it started no rank at all."""

    @property
    def file(self) -> str:
        return f"node-{self.facts.node}.json"
