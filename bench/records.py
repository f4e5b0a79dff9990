"""The frozen values that cross a process or a file boundary: raw numbers, of which statistics are functions."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str
Scaling = Literal["strong", "weak"]
Device = Literal["cpu", "cuda"]
Outcome = Literal["ok", "skipped", "failed", "timeout", "invalid"]


class Value(BaseModel):
    """Base of every exchanged value: immutable, and an unknown field is an error rather than a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class DataSource(Value):
    """Where a workload's samples come from, with the digest of what was read."""

    name: str
    digest: str
    path: str
    """The prepared copy that the ranks read."""
    stands_for: str | None = None
    """The name of the data this is a stand-in for, where it is one."""


class Case(Value):
    """One measurement to make: a workload under a backend at a rank count.

    Options hold only what differs from the defaults, so that a new option with a default keeps old keys valid.
    """

    workload: str
    workload_options: dict[str, Scalar] = {}
    backend: str
    transport: str
    backend_options: dict[str, Scalar] = {}
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
    warmup: int | None = None
    """Steps before the window; ``None`` takes the workload's own number."""
    verify_steps: int = 4
    timeout_s: float = 120.0
    decompose: bool = True
    """Measure where the time of a step goes, after the window."""
    flags: tuple[str, ...] = ()
    data: DataSource | None = None
    """What was prepared for it: every rank of every trial reads this and nothing else."""

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
        )

    @property
    def key(self) -> str:
        """Stable across time: what the case is, not how long it is measured."""
        return f"{self.curve}/ranks={self.ranks}"


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
    env: dict[str, str] = {}


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
    startup_s: float
    """From the start of this rank's own code to its first step."""
    proof: WorkProof | None = None
    final_digest: str | None = None
    settings: dict[str, str] = {}
    """What was in force: threads, library versions, knobs with their defaults spelled out."""
    readings: tuple[Reading, ...] = ()
    messages: tuple[MessageTiming, ...] = ()
    phases: PhaseTimes | None = None
    """``None`` for work that has no parts to tell apart."""


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
