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
    PositiveCount,
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
from bench.core.collectives import Collective
from bench.core.completeness import inconsistency
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts, NodeIdentity
from bench.core.nccl_report import NcclReport
from bench.core.program_run import ProgramRun
from bench.core.telemetry import NodeTelemetry

CONNECTIONS = "connections"
"""The name of a setting: ``tls`` where encrypted connections carry what is measured. Records without encryption have
none, as all had before 2026-11-27."""
MIB = 2**20


class GradientBuckets(FrozenModel):
    """How a backend groups gradients into messages."""

    first_bytes: Bytes
    """The size at which the first message is full, in bytes."""
    most_bytes: Bytes
    """The size at which each further message is full, in bytes."""
    laid_out: bool
    """Whether gradients are assigned to messages beforehand, and a message waits for the last of its gradients; else a
    message takes the gradients that are ready."""
    overlaps: bool = True
    """Whether messages are sent during the backward pass; else they are sent after it."""
    share: Work = 1.0
    """Bytes sent per byte of a gradient: 0.5 where float32 is sent as float16."""


class Gradients(FrozenModel):
    """The gradients of one rank."""

    tensor_bytes: tuple[Bytes, ...]
    """Sizes in the order of the model's parameters; gradients become ready in reverse order."""
    grouping: GradientBuckets


class ShardedUnits(FrozenModel):
    """The parts of a model that are gathered and scattered one by one: each rank holds a shard of every parameter."""

    unit_bytes: Annotated[tuple[Bytes, ...], Field(min_length=1)]
    """The parameters of each unit in bytes, as they are stored, about in the order of the forward pass."""
    gathered_again: bool
    """Whether parameters are freed after the forward pass, and gathered again for the backward pass."""
    overlaps: bool
    """Whether the exchange of one unit travels beside the compute of another."""
    gather_share: Work = 1.0
    """Bytes gathered per byte of a parameter: 0.5 where float32 is gathered as bfloat16."""
    reduce_share: Work = 1.0
    """Bytes reduced per byte of a parameter."""


class StepWork(FrozenModel):
    """The work of one training step on one rank, without the exchange; see :mod:`bench.rank.roofline`."""

    flops: Work
    """Floating-point operations of matrix products, convolutions and attention, forward and backward, each once."""
    executed_flops: Work | None = None
    """The same with those of activations that the backward pass computes again; ``None``: it computes none again."""
    bytes_moved: Work
    """Bytes that its operations read and write: an upper bound of the memory traffic."""
    dtypes: tuple[str, ...]
    """The floating-point types that it computes in, such as ``float32``."""
    product_dtypes: tuple[str, ...] = ()
    """Those of :attr:`flops`, by their results: ``bfloat16``, or ``tf32`` where float32 is multiplied as that; empty in
    older records."""


class PrecisionPeak(FrozenModel):
    """The peak rate of a device in one further type, or the reason why there is none."""

    dtype: str
    flop_s: Amount | None
    """Floating-point operations per second of a matrix product."""
    reason: str | None = None


class DevicePeak(FrozenModel):
    """The peak rates of this rank's device, measured on all ranks at the same time; see :mod:`bench.rank.peak`."""

    flop_s: Amount
    """Floating-point operations per second of a matrix product."""
    bytes_s: Amount
    """Bytes per second of a copy, read and written."""
    how: str
    dtype: str = "float32"
    """The type of the product's matrices; ``tf32``: float32, multiplied as that."""
    clock_hz: Amount | None = None
    """The clock of a GPU's multiprocessors under this load, in hertz."""
    power_cap_w: Amount | None = None
    """The power limit of a GPU at that time, in watts."""
    limits_reason: str | None = None
    """Why the clock or the limit is unknown."""
    precisions: tuple[PrecisionPeak, ...] = ()
    """A GPU's other types; a CPU's are not measured."""


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


class PhaseTimes(FrozenModel):
    """One rank's raw times for the decomposition of a step; see :mod:`bench.rank.decompose`."""

    together_s: Annotated[tuple[StepDuration, ...], Field(min_length=1)]
    """Durations of ordinary steps, including the exchange."""
    alone_s: dict[str, Annotated[tuple[Duration, ...], Field(min_length=1)]]
    """Durations of the parts of steps without exchange: ``data``, ``forward``, ``backward``, ``optimizer``."""
    digest: str
    """SHA-256 of the parameters afterwards, which must be equal on all ranks."""
    alone_step_s: tuple[Duration, ...] | None = None
    """Durations of whole steps without exchange. ``None`` for a single rank, whose ordinary steps exchange nothing, and
    in records from before whole steps were timed."""


class Overhead(FrozenModel):
    """Durations of blocks of steps, alternately with and without the harness's own measuring.

    The k-th blocks of both kinds are neighbours in time.
    """

    steps: PositiveCount
    """Steps per block."""
    watched_s: tuple[StepDuration, ...]
    unwatched_s: tuple[StepDuration, ...]

    @model_validator(mode="after")
    def _neighbours(self) -> Self:
        if len(self.watched_s) != len(self.unwatched_s) or not self.watched_s:
            raise ValueError("it has no pairs of blocks")
        return self


class QueuedSteps(FrozenModel):
    """Durations of a step on the device, per block: of steps whose launches all waited in the device's queue, and of
    ordinary ones, which the host enqueued meanwhile; see :mod:`bench.rank.device_busy`.

    The k-th blocks of both kinds are neighbours in time.
    """

    exchanged: bool
    """Whether the steps exchanged gradients."""
    steps: PositiveCount
    """Steps per block."""
    queued_s: tuple[StepDuration, ...]
    """The mean step of each block, in seconds."""
    stepped_s: tuple[StepDuration, ...]

    @model_validator(mode="after")
    def _neighbours(self) -> Self:
        if len(self.queued_s) != len(self.stepped_s) or not self.queued_s:
            raise ValueError("it has no pairs of blocks")
        return self


class Window(FrozenModel):
    """The measured window on the node's monotonic clock, and the processor time that the rank used in it."""

    began_s: Moment
    ended_s: Moment
    cpu_s: Duration
    """Processor time of all threads of the rank's process, in seconds."""


class MessageTiming(FrozenModel):
    """Durations of a collective operation over one message size on one rank."""

    message_bytes: Bytes
    """As :mod:`bench.core.collectives` defines it."""
    times_s: Annotated[tuple[StepDuration, ...], Field(min_length=1)]
    operation: Collective = "all_reduce"
    in_place: bool | None = None
    """Whether the result replaced what the rank handed in; ``None``: unknown."""


class Tolerance(FrozenModel):
    """The largest deviation of a result from its reference that counts as the same work, and what it is for."""

    value: float
    """Relative to the result."""
    label: str
    absolute: float = 0.0
    """Beside it, per element of an exchanged gradient: half the spacing of the smallest numbers that are sent."""


class Reference(FrozenModel):
    """The result of a single process for the same seed and the same global batches, computed on rank 0."""

    samples: tuple[tuple[int, ...], ...]
    losses: tuple[float, ...]
    deviation: float
    """The deviation of :attr:`quantity`, which is the largest relative to its tolerance; see
    :mod:`bench.rank.training_proof`. Without a quantity: of a result, or of parameters after all verified steps, the
    largest ‖p − p_ref‖₂ ÷ ‖p_ref − p_start‖₂ over the tensors, as it was compared in older records."""
    quantity: str = ""
    """What deviates most: ``gradient of 0.weight in step 2``."""
    tolerance: float | None = None
    """The tolerance of that quantity: the proof's, and the rounding of the model's own arithmetic."""
    loss_tolerance: float | None = None
    """The tolerance of the losses; ``None``: the proof's."""
    rounding: float | None = None
    """By how much the gradient of a batch deviates from the mean of its halves' in a single process; ``None`` where
    there was no batch to halve."""
    arithmetic: str | None = None
    """The floating-point type of the fewest digits in the forward pass, such as ``bfloat16``."""
    start_digest: str | None = None
    """SHA-256 of parameters and buffers before the first step."""
    evaluation_mode: bool = False
    """The model is random in training mode, and was verified in evaluation mode."""
    random: str | None = None
    """Why gradients can't be compared: the model is random in evaluation mode too."""
    overflows: Count = 0
    """How many of the steps updated nothing, in the ranks and in the reference, since a scaled gradient overflowed."""
    coupled: str | None = None
    """Why no number of ranks does the work of a single process: a batch is not the mean of its parts."""


class WorkProof(FrozenModel):
    """What one rank did in the verified steps, before the measured window."""

    samples: tuple[tuple[int, ...], ...]
    """The indices of this rank's samples, one tuple per step, in order."""
    losses: tuple[float, ...]
    digest: str
    """SHA-256 of this rank's result (its parameters) after the verified steps."""
    tolerance: Tolerance
    reference: Reference | None = None
    start_digest: str | None = None
    """SHA-256 of this rank's parameters and buffers before the first step; ``None`` in older records, and for work that
    is no training."""


class NotFinite(FrozenModel):
    """A result of a step, or of all steps, that is no finite number."""

    name: str
    """What it is: ``loss``, ``mean``, ``parameter``."""
    value: str
    """``nan``, ``inf`` or ``-inf``."""
    step: int | None = None
    """The first such step, counted from 1 with the verified steps and the warm-up; ``None``: it is unknown."""
    where: str = ""
    """The same step by its phase, such as ``measured step 4``."""
    lasting: bool = True
    """Whether no later step was finite either."""

    @property
    def description(self) -> str:
        """Such as ``loss is nan from step 12 on (measured step 4)``."""
        if self.step is None:
            return f"a {self.name} is {self.value} after the measured window"
        when = f"from step {self.step} on" if self.lasting else f"in step {self.step}"
        return f"{self.name} is {self.value} {when} ({self.where})"


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


class SameWork(FrozenModel):
    """Whether a trial did the same work as a single process does."""

    verdict: Literal["same", "different", "unproven"]
    deviation: float | None = None
    tolerance: float | None = None
    label: str = ""
    reason: str | None = None
    quantity: str = ""
    """What has that deviation; empty in older records."""
    rounding: float | None = None
    """See :attr:`Reference.rounding`."""


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
