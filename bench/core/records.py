"""What a step exchanges: the sizes of the gradients, and how a backend puts them together into messages.

What a roofline is made of, as values: the work of one step on one rank, and the most its device can do.

The frozen values that cross a process or a file boundary: raw numbers, of which statistics are functions.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.core.case import Case
from bench.core.frozen_model import FrozenModel
from bench.core.machine import NodeFacts
from bench.core.telemetry import NodeTelemetry

MIB = 2**20


class GradientBuckets(FrozenModel):
    """How gradients become messages."""

    first_bytes: int
    """A message is closed once it holds this many bytes: the first one …"""
    most_bytes: int
    """… and each further one."""
    laid_out: bool
    """Messages are laid out beforehand, and wait for the last of their gradients; else one takes whatever is ready."""
    overlaps: bool = True
    """Messages travel while the backward pass goes on; else they begin when it has ended."""
    share: float = 1.0
    """Bytes on the wire for each byte of a gradient: a half where float32 is sent as float16."""


class Gradients(FrozenModel):
    """Of one rank. ``tensor_bytes`` are in the order of the model's parameters; they are ready in reverse order."""

    tensor_bytes: tuple[int, ...]
    grouping: GradientBuckets


class StepWork(FrozenModel):
    """One training step of one rank, without the exchange; see :mod:`bench.rank.roofline`."""

    flops: float
    """Of its matrix products, convolutions and attention, forward and backward."""
    bytes_moved: float
    """What its operations read and write: an upper bound."""
    dtypes: tuple[str, ...]
    """The floating-point types it computes in: ``float32``."""


class DevicePeak(FrozenModel):
    """The most that this rank got from its device while all ranks tried; see :mod:`bench.rank.roofline`."""

    flop_s: float
    """Of a float32 matrix product."""
    bytes_s: float
    """Of a copy: bytes read and bytes written."""
    how: str


Outcome = Literal["ok", "skipped", "failed", "timeout", "invalid"]


class Reading(FrozenModel):
    """One further measured number. An unknown one is ``None`` with the reason, never 0."""

    name: str
    value: float | None
    unit: str
    reason: str | None = None


class PhaseTimes(FrozenModel):
    """One rank's raw times for the decomposition of a step; see :mod:`bench.rank.decompose`."""

    together_s: tuple[float, ...]
    """Ordinary steps, exchange and all."""
    alone_s: dict[str, tuple[float, ...]]
    """The parts of steps that exchange nothing: ``data``, ``forward``, ``backward``, ``optimizer``."""
    digest: str
    """Of the parameters afterwards: the ranks must still agree."""


class Overhead(FrozenModel):
    """Blocks of steps with the harness's own measuring on and off, alternating; the k-th of each are neighbours."""

    steps: int
    """In a block."""
    watched_s: tuple[float, ...]
    unwatched_s: tuple[float, ...]


class Window(FrozenModel):
    """When the measured window was on the node's monotonic clock, and what the rank's process used in it."""

    began_s: float
    ended_s: float
    cpu_s: float
    """Processor time of all threads of the rank's process."""


class MessageTiming(FrozenModel):
    """The allreduce of one message size on one rank."""

    message_bytes: int
    times_s: tuple[float, ...]


class Tolerance(FrozenModel):
    """How far a result may be from the reference, and why that much."""

    value: float
    label: str


class Reference(FrozenModel):
    """What a single process gets for the same seed and the same global batches. Computed on rank 0."""

    samples: tuple[tuple[int, ...], ...]
    losses: tuple[float, ...]
    deviation: float
    """Largest, over the tensors, of ‖p − p_ref‖₂ ÷ ‖p_ref − p_start‖₂: relative to what training moved.
    For an array: |mean − mean_ref| ÷ |mean_ref|."""


class WorkProof(FrozenModel):
    """What one rank did in the verified prefix, before the timed window."""

    samples: tuple[tuple[int, ...], ...]
    """Sample numbers of this rank, one tuple a step, in order."""
    losses: tuple[float, ...]
    digest: str
    """SHA-256 of this rank's result (its parameters) after the prefix."""
    tolerance: Tolerance
    reference: Reference | None = None


class RankRecord(FrozenModel):
    """All that one rank measured. Times are seconds of its own monotonic clock."""

    rank: int
    world: int
    host: str
    pid: int
    device: str
    kind: str
    """The workload's kind: ``training``, ``collective`` or ``array``."""
    unit: str
    """What ``amount_per_step`` counts: ``samples``, ``bytes`` or ``elements``."""
    amount_per_step: float
    """Of all ranks together."""
    step_s: tuple[float, ...]
    warmup_steps: int
    settled: bool | None = None
    """Whether step times had settled when the window began; ``None`` where a number of warm-up steps was given."""
    startup_s: float
    """From the start of this rank's own code to its first step."""
    stepping_s: tuple[float, float] | None = None
    """When its first step began and its last ended, on the node's monotonic clock."""
    window: Window | None = None
    memory_peak_bytes: int | None = None
    """The most that was resident in the rank's process."""
    cores: tuple[int, ...] = ()
    """Where it was allowed to run; empty where it was not asked."""
    gpu: str | None = None
    """The UUID of the device it computed on."""
    proof: WorkProof | None = None
    final_digest: str | None = None
    settings: dict[str, str] = Field(default={})
    """What was in force: threads, library versions, knobs with their defaults spelled out."""
    readings: tuple[Reading, ...] = ()
    messages: tuple[MessageTiming, ...] = ()
    phases: PhaseTimes | None = None
    """``None`` for work that has no parts to tell apart."""
    own_cost: Overhead | None = None
    gradients: Gradients | None = None
    """``None`` where nothing is exchanged, or it isn't known how."""
    step_work: StepWork | None = None
    """``None`` where it was not asked for, or no model computes."""
    peak: DevicePeak | None = None
    peak_reason: str | None = None
    """Why the peak is unknown where it was asked for."""


class RankFailure(FrozenModel):
    """How one process of a trial ended badly."""

    role: str
    rank: int
    host: str
    error: str
    """The exception's own line."""
    at: float
    """When it failed, in seconds of the Unix epoch: the first to fail is the cause, others fail because it is gone."""
    tail: tuple[str, ...] = ()
    """The last lines of its traceback or log."""
    where: str = ""
    """Which step it was in."""


class Link(FrozenModel):
    """What the links between namespaces carried when nobody else used them, measured once a sweep."""

    net: str
    wanted_bytes_s: float | None
    """Of whole Ethernet frames, each way; ``None`` where nothing is shaped."""
    achieved_bytes_s: float
    """Of payload, both ways at once, in the slower direction."""
    round_trip_s: float
    """Of one byte: the median."""


class Condition(FrozenModel):
    """Something that may have spoilt a number; see :mod:`reports.analysis.flags`."""

    name: str
    seen: str
    serious: bool = False
    """The trial's number is not to be used."""


class SameWork(FrozenModel):
    """Whether a trial did the same work as a single process."""

    verdict: Literal["same", "different", "unproven"]
    deviation: float | None = None
    tolerance: float | None = None
    label: str = ""
    reason: str | None = None


class Trial(FrozenModel):
    """One fresh set of processes, and how it ended. ``round`` counts the repeats from 0."""

    case: Case
    round: int
    outcome: Outcome
    reason: str | None = None
    ranks: tuple[RankRecord, ...] = ()
    failures: tuple[RankFailure, ...] = ()
    same_work: SameWork | None = None
    environment: str
    started_at: str
    wall_s: float
    log_tail: tuple[str, ...] = ()
    telemetry: tuple[NodeTelemetry, ...] = ()
    """One a node, cut to the measured window."""
    conditions: tuple[Condition, ...] = ()
    link: Link | None = None
    """What joined the ranks, where they ran in namespaces."""
    nodes: tuple[NodeFacts, ...] = ()
    """Where they ran, beyond the harness's own machine."""
    cost: float | None = None
    """What it was billed, in the unit of the price that was given."""
    cost_reason: str | None = None
    """Why the cost is unknown where the site bills its trials."""
