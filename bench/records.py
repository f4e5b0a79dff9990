"""The frozen values that cross a process or a file boundary: raw numbers, of which statistics are functions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.gradients import Gradients
from bench.roofline import DevicePeak, StepWork
from bench.telemetry import NodeTelemetry
from bench.value import Value as Value

Scalar = bool | int | float | str
Scaling = Literal["strong", "weak"]
Device = Literal["cpu", "cuda"]
Outcome = Literal["ok", "skipped", "failed", "timeout", "invalid"]


class DataSource(Value):
    """Where a workload's samples come from, with the digest of what was read."""

    name: str
    digest: str
    path: str
    """The prepared copy that the ranks read."""
    stands_for: str | None = None
    """The name of the data this is a stand-in for, where it is one."""


FaultKind = Literal["kill", "stop", "raise", "slow", "oom", "exit"]


class Fault(Value):
    """Something that goes wrong on purpose on one rank; see :mod:`bench.faults`."""

    kind: FaultKind
    rank: int
    step: int | None = None
    """Of the measured window, from 1; 0 is before the rank joins the others."""
    ms: float | None = None
    """``slow``: how much later each backward pass begins."""

    @property
    def label(self) -> str:
        """As it was asked for: ``slow:rank=1,ms=200``."""
        given = {"rank": self.rank, "step": self.step, "ms": self.ms}
        return f"{self.kind}:" + ",".join(f"{name}={value:g}" for name, value in given.items() if value is not None)


class Case(Value):
    """One measurement to make: a workload under a backend at a rank count.

    Options hold only what differs from the defaults, so that a new option with a default keeps old keys valid.
    """

    workload: str
    workload_options: dict[str, Scalar] = Field(default={})
    backend: str
    transport: str
    backend_options: dict[str, Scalar] = Field(default={})
    device: Device = "cpu"
    ranks: int
    scaling: Scaling = "strong"
    batch: int
    """Samples a step: of all ranks under strong scaling, of each rank under weak scaling."""
    threads: int = 1
    seed: int = 0
    steps: int | None = None
    """Measured steps; ``None`` sizes the window by :attr:`window_s`."""
    window_s: float = 1.0
    precision: float | None = None
    """The window is stretched until its own mean is known this well, or it is three times as long."""
    warmup: int | None = None
    """Steps before the window; ``None`` warms up until step times have settled."""
    verify_steps: int = 4
    timeout_s: float = 120.0
    decompose: bool = True
    """Measure where the time of a step goes, after the window."""
    own_cost: bool = False
    """Measure what timing and sampling cost, after the window."""
    roofline: bool = False
    """Count the work of a step and measure the device's peak, at the very end."""
    affinity: Literal["cores", "none"] = "cores"
    """On CPUs: each rank gets as many cores of its own as it has threads, or may use all."""
    telemetry: str = "auto"
    """``auto``: the host, and GPUs where the ranks compute on them; ``always``: GPUs too; ``off``; ``replay:FILE``."""
    fault: Fault | None = None
    net: str | None = None
    """Each rank has a network namespace of its own, joined by links of this rate (:mod:`bench.links`); ``None``: all
    are on the loopback interface."""
    flags: tuple[str, ...] = ()
    data: DataSource | None = None
    """What was prepared for it: every rank of every trial reads this and nothing else."""
    label: str = ""
    """Which sweep it is from, where several are shown side by side; never stored."""

    @property
    def global_batch(self) -> int:
        return self.batch if self.scaling == "strong" else self.batch * self.ranks

    @property
    def local_batch(self) -> int:
        return self.global_batch // self.ranks

    @property
    def curve(self) -> str:
        """The key without the rank count: the points of one curve share it."""
        return _joined(
            self.workload + _bracketed(self.workload_options),
            f"{self.backend}-{self.transport}" + _bracketed(self.backend_options),
            self.scaling,
            f"batch={self.batch}",
            f"threads={self.threads}",
            self.device,
            f"seed={self.seed}",
            f"sweep={self.label}" if self.label else "",
            f"net={self.net}" if self.net else "",
        )

    @property
    def key(self) -> str:
        """Stable across time: what the case is, not how long it is measured."""
        return _joined(f"{self.curve}/ranks={self.ranks}", f"fault={self.fault.label}" if self.fault else "")


def _bracketed(options: dict[str, Scalar]) -> str:
    return "[" + ",".join(f"{name}={options[name]}" for name in sorted(options)) + "]" if options else ""


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


class Role(Value):
    """One kind of process that a case needs, as a value: who starts it is the site's business."""

    name: str
    count: int
    fanout: Literal["each", "mpi"] = "each"
    """``each``: the site starts ``count`` processes; ``mpi``: one mpirun starts them."""
    service: bool = False
    """A service has no end of its own: it is ended when the other roles are done."""
    observer: bool = False
    """Watches the others: its end ends nothing, and it may finish a sentence before it is ended."""
    env: dict[str, str] = Field(default={})


class Reading(Value):
    """One further measured number. An unknown one is ``None`` with the reason, never 0."""

    name: str
    value: float | None
    unit: str
    reason: str | None = None


class PhaseTimes(Value):
    """One rank's raw times for the decomposition of a step; see :mod:`bench.decompose`."""

    together_s: tuple[float, ...]
    """Ordinary steps, exchange and all."""
    alone_s: dict[str, tuple[float, ...]]
    """The parts of steps that exchange nothing: ``data``, ``forward``, ``backward``, ``optimizer``."""
    digest: str
    """Of the parameters afterwards: the ranks must still agree."""


class OwnCost(Value):
    """Blocks of steps with the harness's own measuring on and off, alternating; the k-th of each are neighbours."""

    steps: int
    """In a block."""
    watched_s: tuple[float, ...]
    unwatched_s: tuple[float, ...]


class Window(Value):
    """When the measured window was on the node's monotonic clock, and what the rank's process used in it."""

    began_s: float
    ended_s: float
    cpu_s: float
    """Processor time of all threads of the rank's process."""


class MessageTiming(Value):
    """The allreduce of one message size on one rank."""

    message_bytes: int
    times_s: tuple[float, ...]


class Tolerance(Value):
    """How far a result may be from the reference, and why that much."""

    value: float
    label: str


class Reference(Value):
    """What a single process gets for the same seed and the same global batches. Computed on rank 0."""

    samples: tuple[tuple[int, ...], ...]
    losses: tuple[float, ...]
    deviation: float
    """Largest, over the tensors, of ‖p − p_ref‖₂ ÷ ‖p_ref − p_start‖₂: relative to what training moved.
    For an array: |mean − mean_ref| ÷ |mean_ref|."""


class WorkProof(Value):
    """What one rank did in the verified prefix, before the timed window."""

    samples: tuple[tuple[int, ...], ...]
    """Sample numbers of this rank, one tuple a step, in order."""
    losses: tuple[float, ...]
    digest: str
    """SHA-256 of this rank's result (its parameters) after the prefix."""
    tolerance: Tolerance
    reference: Reference | None = None


class RankRecord(Value):
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
    own_cost: OwnCost | None = None
    gradients: Gradients | None = None
    """``None`` where nothing is exchanged, or it isn't known how."""
    step_work: StepWork | None = None
    """``None`` where it was not asked for, or no model computes."""
    peak: DevicePeak | None = None
    peak_reason: str | None = None
    """Why the peak is unknown where it was asked for."""


class RankFailure(Value):
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


class Link(Value):
    """What the links between namespaces carried when nobody else used them, measured once a sweep."""

    net: str
    wanted_bytes_s: float | None
    """Of whole Ethernet frames, each way; ``None`` where nothing is shaped."""
    achieved_bytes_s: float
    """Of payload, both ways at once, in the slower direction."""
    round_trip_s: float
    """Of one byte: the median."""


class Condition(Value):
    """Something that may have spoilt a number; see :mod:`reports.analysis.conditions`."""

    name: str
    seen: str
    serious: bool = False
    """The trial's number is not to be used."""


class SameWork(Value):
    """Whether a trial did the same work as a single process."""

    verdict: Literal["same", "different", "unproven"]
    deviation: float | None = None
    tolerance: float | None = None
    label: str = ""
    reason: str | None = None


class Trial(Value):
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
