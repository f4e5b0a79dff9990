"""What a trial measures, as frozen values: the records of its ranks and the trial itself.

They hold raw numbers only; statistics are functions of them (:mod:`reports.analysis`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bench.core.bounds import (
    MAX_WORK,
    Amount,
    Bytes,
    Count,
    Duration,
    Measured,
    Moment,
    RankCount,
    RankNumber,
    RoundNumber,
    StepDuration,
    StepsPerEntry,
    Timestamp,
    Unit,
    Work,
)
from bench.core.case import Case
from bench.core.completeness import inconsistency
from bench.core.frozen_model import FrozenModel
from bench.core.gradients import Gradients, ShardedUnits
from bench.core.machine import NodeFacts, NodeIdentity
from bench.core.nccl_report import NcclReport
from bench.core.program_run import ProgramRun
from bench.core.same_work import NotFinite, SameWork, WorkProof
from bench.core.step_measures import DevicePeak, MessageTiming, Overhead, PhaseTimes, QueuedSteps, StepWork
from bench.core.telemetry import NodeTelemetry

CONNECTIONS = "connections"
"""The name of a setting: how Dask carries what is measured (``tls``, ``unix``, ``streams``). Records of tasks over
plain connections have none, as all had before 2026-11-27."""
MIB = 2**20


Outcome = Literal["ok", "skipped", "failed", "timeout", "invalid"]


class Reading(FrozenModel):
    """One further measured number. An unknown value is ``None`` with a reason, never 0."""

    name: str
    value: Measured | None
    unit: str
    reason: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unknown_if_not_finite(cls, fields: Any) -> Any:
        """Whatever was measured, a number that is none is unknown."""
        value = fields.get("value") if isinstance(fields, dict) else None
        if isinstance(value, float | int) and not abs(value) <= MAX_WORK:
            return {**fields, "value": None, "reason": f"it read {value:.3g}"}
        return fields


class Window(FrozenModel):
    """The measured window on the node's monotonic clock, and the processor time that the rank used in it."""

    began_s: Moment
    ended_s: Moment
    cpu_s: Duration
    """Processor time of all threads of the rank's process, in seconds."""


DECOMPOSITION, OVERHEAD, ROOFLINE, CHECKPOINT = "decomposition", "overhead", "roofline", "checkpoint"
DEVICE_BUSY = "device_busy"
"""What a rank may measure after its window; see :mod:`bench.rank.after_window`."""
CHECKPOINT_READINGS = {
    "checkpoint_stall": "s",
    "checkpoint_stall_per_gb": "s/GB",
    "checkpoint_write": "s",
    "checkpoint_size": "B",
    "checkpoint_rate": "B/s",
}
"""The readings of :mod:`bench.rank.checkpoint` and their units: how long training stands still for one save, and for
each GB of it; the time until it is on the disk; the bytes of all ranks; and these bytes by that time."""


class RankRecord(FrozenModel):
    """Everything that one rank measured. Times are seconds of its own monotonic clock."""

    rank: RankNumber
    world: RankCount
    host: str
    pid: Count
    device: str
    kind: str
    """The workload's kind: ``training``, ``collective``, ``array`` or ``program``."""
    unit: Unit
    """The unit of ``amount_per_step``: ``samples``, ``bytes``, ``elements``, or what else the work counts."""
    amount_per_step: Amount
    """What all ranks together process in one step."""
    step_s: Annotated[tuple[StepDuration, ...], Field(min_length=1)]
    """Durations of the steps of the measured window, or mean durations of a step in blocks of
    :attr:`steps_per_entry`, where marking the end of every step would slow the steps down."""
    steps_per_entry: StepsPerEntry = 1
    """How many steps an entry of :attr:`step_s` stands for."""
    last_entry_steps: StepsPerEntry | None = None
    """How many the last entry stands for, where they are fewer."""
    host_step_s: tuple[Duration, ...] | None = None
    """Beside :attr:`step_s`: how long the host took to enqueue a step. ``None``: the host computes the steps itself, or
    unknown, as in old records."""
    pause_s: Duration = 0.0
    """The pause of random length before the warm-up, the same on all ranks; see :mod:`bench.rank.random_pause`."""
    warmup_steps: Count
    settled: bool | None = None
    """Whether step times had settled when the window began; ``None`` where the number of warm-up steps was given."""
    startup_s: Duration
    """From the start of this rank's own code to its first step, in seconds."""
    stepping_s: tuple[Moment, Moment] | None = None
    """The start of its first step and the end of its last, on the node's monotonic clock."""
    window: Window | None = None
    memory_peak_bytes: Bytes | None = None
    """The peak resident memory of the rank's process: verification, window, decomposition and overhead included."""
    cores: tuple[Count, ...] = ()
    """The cores that it was allowed to run on at the end of the window; empty where they are unknown."""
    planned_cores: tuple[Count, ...] = ()
    """The cores that it was pinned to before it began; empty where it was not pinned, or they are unknown."""
    threads: Count | None = None
    """The threads that torch computed with at the end of the window; ``None``: unknown, as in old records."""
    variables: dict[str, str] | None = None
    """The environment variables that change what is measured (:mod:`bench.host.variables`); ``None``: unknown, as in
    old records."""
    gpu: str | None = None
    """The UUID of the GPU that it computed on; ``None``: it computed on CPUs."""
    proof: WorkProof | None = None
    not_finite: NotFinite | None = None
    """The first result that is no finite number; ``None``: all were, or, before this was looked at, unknown."""
    final_digest: str | None = None
    settings: dict[str, str] = Field(default={})
    """The settings in force: threads, library versions, options with their defaults."""
    readings: tuple[Reading, ...] = ()
    messages: tuple[MessageTiming, ...] = ()
    phases: PhaseTimes | None = None
    """The decomposition of a step; ``None`` for work without parts, and where :attr:`phases_reason` says why."""
    phases_reason: str | None = None
    """Why a step can't be decomposed where that was requested."""
    own_cost: Overhead | None = None
    queued_steps: tuple[QueuedSteps, ...] = ()
    """How long the device needs for a step without waiting for the host: with the exchange, and without where several
    ranks can step without it; empty on CPUs, and where :attr:`queued_steps_reason` says why."""
    queued_steps_reason: str | None = None
    gradients: Gradients | None = None
    """``None`` where nothing is exchanged, or the backend does not say how."""
    sharded: ShardedUnits | None = None
    """``None`` where the model is not sharded, or the backend does not say how."""
    step_work: StepWork | None = None
    """``None`` where the roofline was not requested, or no model computes."""
    peak: DevicePeak | None = None
    peak_reason: str | None = None
    """Why the peak is unknown where the roofline was requested."""
    complete: bool = True
    """Whether the rank came to the end of what it measures after its window, see :mod:`bench.rank.after_window`."""
    missing: dict[str, str] = Field(default={})
    """Why requested measurements after the window are missing, by their names (:data:`DECOMPOSITION` and others)."""
    failed_at: Moment | None = None
    """When the first of them failed on this rank, in seconds since the Unix epoch; those of other ranks may fail
    because of it. ``None`` where none did, or where it failed on another rank only."""
    node: RankNumber | None = None
    """The number of its node in the trial; ``None`` in old records."""
    boot_id: str | None = None
    """That of its machine (:class:`bench.core.machine.NodeIdentity`), whose clock times its window."""
    sources: str | None = None
    """The digest of the package ``bench`` that it ran (:mod:`bench.host.running_code`); ``None`` in old records."""
    nccl: NcclReport | None = None
    """How NCCL connects this rank to others; ``None``: it does not, or :attr:`nccl_reason` says why it is unknown."""
    nccl_reason: str | None = None
    program: ProgramRun | None = None
    """How a user's own program ran; ``None``: the work is one of this project's, or of a plugin."""

    @model_validator(mode="after")
    def _entries(self) -> Self:
        if self.host_step_s is not None and len(self.host_step_s) != len(self.step_s):
            raise ValueError("host_step_s and step_s have different lengths")
        if self.last_entry_steps is not None and self.last_entry_steps >= self.steps_per_entry:
            raise ValueError("last_entry_steps is not below steps_per_entry")
        return self

    @property
    def identity(self) -> NodeIdentity:
        return NodeIdentity(self.host, self.node, self.boot_id)

    @property
    def steps(self) -> int:
        """The number of steps of the measured window."""
        return (len(self.step_s) - 1) * self.steps_per_entry + (self.last_entry_steps or self.steps_per_entry)

    @property
    def measured_s(self) -> float:
        """The duration of all steps of the measured window, in seconds."""
        return self._sum(self.step_s)

    @property
    def mean_step_s(self) -> float:
        """The mean duration of a step of the measured window, in seconds."""
        return self.measured_s / self.steps

    @property
    def mean_host_step_s(self) -> float | None:
        """The mean time in which the host enqueued a step, in seconds; ``None`` where :attr:`host_step_s` is."""
        return None if self.host_step_s is None else self._sum(self.host_step_s) / self.steps

    def _sum(self, entries: tuple[float, ...]) -> float:
        """The sum over all steps of what each entry has the mean of."""
        missing = self.steps_per_entry - (self.last_entry_steps or self.steps_per_entry)
        return sum(entries) * self.steps_per_entry - entries[-1] * missing


class RankFailure(FrozenModel):
    """How one process of a trial failed."""

    role: str
    rank: RankNumber
    host: str
    error: str
    """The last line of the exception: its type and message."""
    at: Moment
    """When it failed, in seconds since the Unix epoch. The first failure is the cause; others fail because of it."""
    tail: tuple[str, ...] = ()
    """The last lines of its traceback."""
    where: str = ""
    """The step or phase that it was in."""


class Link(FrozenModel):
    """What the links between network namespaces carry without other traffic, measured once per sweep."""

    net: str
    wanted_bytes_s: Amount | None
    """The configured rate of whole Ethernet frames in each direction; ``None`` where the links are not shaped."""
    achieved_bytes_s: Amount
    """The rate of payload in the slower direction, with transfers in both directions at once."""
    round_trip_s: Duration
    """The median round-trip time of one byte."""


class Condition(FrozenModel):
    """A disturbance that may have affected a measurement; see :mod:`reports.analysis.conditions`."""

    name: str
    seen: str
    serious: bool = False
    """The trial's measurements are not used."""


class Trial(FrozenModel):
    """One fresh set of processes and its result. ``round`` counts the repeats from 0."""

    case: Case
    round: RoundNumber
    outcome: Outcome
    reason: str | None = None
    ranks: tuple[RankRecord, ...] = ()
    failures: tuple[RankFailure, ...] = ()
    same_work: SameWork | None = None
    environment: str
    started_at: Timestamp
    wall_s: Duration | None
    """``None``: unknown, since its record could not be read."""
    log_tail: tuple[str, ...] = ()
    telemetry: tuple[NodeTelemetry, ...] = ()
    """What was sampled on each node, cut to the measured window."""
    conditions: tuple[Condition, ...] = ()
    link: Link | None = None
    """The links between the ranks, where they ran in network namespaces."""
    nodes: tuple[NodeFacts, ...] = ()
    """The machines that the ranks ran on, other than the harness's own."""
    cost: Work | None = None
    """What the trial was billed, in the unit of the given price."""
    cost_reason: str | None = None
    """Why the cost is unknown, where the site bills its trials."""
    sources: str | None = None
    """The digest of the package ``bench`` that its ranks ran; ``None``: the ranks, or their records, are older."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.outcome == "ok" and (problem := inconsistency(self.ranks, self.case.ranks)):
            raise ValueError(problem)
        return self
