"""The contract of a workload: what the ranks do, whatever carries their gradients.

A new workload is one new file in this folder that defines ``WORKLOAD``, an instance of :class:`Workload`. Torch is
imported inside :meth:`Workload.build` and the :class:`Work` it returns, which live in ranks only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from bench.core.case import Case, DataSource, Device, Scaling
from bench.core.records import MessageTiming, Reading
from bench.plugins.backend import Options, Session

WorkloadKind = Literal["training", "collective", "array"]


class DataProblem(Exception):
    """The workload's data is missing or damaged. The text is one line: the file and the remedy."""


class Work(ABC):
    """One rank's share of a workload, built and ready to step."""

    unit: str = "samples"
    amount_per_step: float
    """In ``unit``, of all ranks together."""
    warmup_steps: int = 4
    """At least, before step times may count as settled."""
    min_steps: int = 10
    max_steps: int = 20_000
    fixed_steps: int | None = None
    """The measured steps where the work itself says how many (whole epochs)."""
    injected_delay_s: float = 0.0
    """How much later than it could this rank's backward pass (or the step, where there is none) begins: a fault."""

    @abstractmethod
    def step(self) -> None:
        """One step. Nothing in it waits for the device or copies from it, unless the work itself does."""

    @abstractmethod
    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        """Take the first ``steps`` steps and note them: sample numbers and this rank's loss, for each step."""

    @abstractmethod
    def snapshot(self) -> list[Any]:
        """A copy of the result so far (a trained model's parameters) as float64 or float32 CPU tensors."""

    def gradient_bytes(self) -> tuple[int, ...]:
        """Of each parameter, in the model's order; empty where nothing is trained."""
        return ()

    def parts(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """What a step consists of, by name, in order; empty where there is nothing to tell apart."""
        return ()

    def save(self) -> Any:
        """A copy of all that a step changes, for :meth:`restore`."""
        return None

    def restore(self, kept: Any) -> None:
        """Put back what :meth:`save` copied."""
        return

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        """What else is worth measuring, outside the timed window."""
        return (), ()


class Workload(ABC):
    """What a workload declares, and the function that builds it in a rank."""

    name: str
    summary: str
    kind: WorkloadKind = "training"
    options: type[Options] = Options
    scalings: tuple[Scaling, ...] = ("strong", "weak")
    devices: tuple[Device, ...] = ("cpu", "cuda")
    """Where it computes; elsewhere its cells fall back to the CPU."""
    uses_batch: bool = True
    tolerance: float | None = None
    """Overrides the backend's tolerance where the result is not a trained model."""

    def unsupported_reason(self, case: Case) -> str | None:
        """Why this combination makes no sense on any machine, or ``None``."""
        return None

    def flags(self, options: Options) -> tuple[str, ...]:
        """Names that go wherever this workload's numbers appear (``emulated_compute``)."""
        return ()

    def prepare(self, case: Case) -> DataSource | None:
        """Fetch what the ranks will read, before any of them starts; they find it in ``case.data``.

        Raises :class:`DataProblem`.
        """
        return None

    @abstractmethod
    def build(self, case: Case, session: Session) -> Work:
        """This rank's share. A session of one rank gets the whole global batch: that is the reference."""


__all__ = ["DataProblem", "Options", "Work", "Workload", "WorkloadKind"]
