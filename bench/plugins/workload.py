"""The contract of a workload: the work of a rank, whatever carries its gradients.

A workload is one file that defines ``WORKLOAD``, an instance of a subclass of :class:`Workload`. The file must be
importable without torch: import it inside :meth:`Workload.build` and the methods of :class:`Work`, which run in ranks
only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from bench.core.case import Case, DataSource, Device, Scalar, Scaling
from bench.core.records import Reading
from bench.core.step_measures import MessageTiming
from bench.plugins.backend import Options, Session

WorkloadKind = Literal["training", "collective", "array", "program"]
StepParts = tuple[tuple[str, Callable[[], None]], ...]
"""The parts of a step in order, each with its name."""


class DataProblem(Exception):
    """The workload's data is missing or damaged. The text is one line: the file and the remedy."""


class Work(ABC):
    """One rank's share of a workload, ready to step.

    Every rank calls the same methods in the same order, so that each of them may communicate.
    """

    unit: str = "samples"
    """What the work counts: ``samples``, ``bytes``, ``tokens``, or any other word."""
    amount_per_step: float
    """The amount of work in a step, of all ranks together, in :attr:`unit`: a number above 0, the same on all ranks."""
    warmup_steps: int = 4
    """The smallest number of warm-up steps."""
    min_steps: int = 10
    """The smallest number of measured steps, where the window would hold fewer."""
    max_steps: int = 20_000
    """The largest number of measured steps, where the window would hold more."""
    result_name: str = "loss"
    """What :meth:`last_result` is called in messages."""
    needs_warmup: bool = False
    """Whether its first step does what no later one does, such as compiling: one warm-up step is taken at least."""
    fixed_steps: int | None = None
    """The number of measured steps where the work determines it (whole epochs); ``None``: the window does."""
    unproven_reason: str | None = None
    """Why :meth:`verify` compares nothing, in one line; ``None``: it does."""
    injected_delay_s: float = 0.0
    """An injected fault: the backward pass (or the step of work without one) of this rank begins so much later."""

    def step(self) -> None:
        """Take one step. It should not wait for the device or copy from it unless the work needs that.

        Work that has :meth:`parts` need not define it: a step is all of them, in order. Where a step does more, the
        rest of its time is reported as unattributed.
        """
        parts = self.parts()
        if not parts:
            raise NotImplementedError(f"{type(self).__name__} has neither a step nor parts")
        for _, part in parts:
            part()

    def last_result(self) -> Any:
        """A scalar of the last step which must be a finite number, such as its loss; ``None`` where there is none.

        A number, or a tensor on the session's device that later steps do not change and that carries no gradient. It is
        called after every step and must not wait for the device.
        """
        return None

    @property
    def arithmetic(self) -> str | None:
        """The arithmetic of matrix products where it is not that of their tensors' type, such as ``tf32``."""
        return None

    @property
    def rounds_elsewhere(self) -> bool:
        """Whether its operations are fused or ordered otherwise than they are written, so that a type of few digits
        rounds other numbers."""
        return False

    def in_float32(self) -> AbstractContextManager[None] | None:
        """A context in which a step computes in float32; ``None`` where it always does, or can't."""
        return None

    def one_by_one(self) -> AbstractContextManager[None]:
        """Inside, steps execute their operations one by one, so that they can be counted: not compiled, not replayed
        from a graph."""
        return nullcontext()

    def without_recomputation(self) -> AbstractContextManager[None] | None:
        """A context in which a step computes no activation twice; ``None`` where it never does."""
        return None

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        """Take the first ``steps`` steps and record what they did; not called of :class:`TrainingWork`.

        Returns:
            For each step the sample numbers of this rank, in order, and for each step this rank's loss.
        """
        raise NotImplementedError(f"{type(self).__name__} has no verified steps")

    @abstractmethod
    def snapshot(self) -> list[Any]:
        """A copy of the result so far, such as a model's whole parameters: float64 or float32 tensors on the CPU."""

    def gradient_bytes(self) -> tuple[int, ...]:
        """The size of each gradient in bytes, in the order of the model's parameters; empty without a model."""
        return ()

    def parts(self) -> StepParts:
        """The parts of a step, name and function, in order; empty where a step has no parts.

        Training has ``data``, ``forward``, ``backward`` and ``optimizer``; calling all of them takes one step. A name
        may occur more than once: with gradient accumulation, forward and backward passes alternate.
        """
        return ()

    def save(self) -> Any:
        """A copy of all that a step changes, for :meth:`restore`."""
        return None

    def restore(self, kept: Any) -> None:
        """Restore what :meth:`save` returned."""
        return

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        """Further measurements after the measured window: readings, and times of messages by size."""
        return (), ()


class TrainingWork(Work):
    """Work that trains one torch model, so that its steps are verified gradient by gradient.

    :mod:`bench.rank.training_proof` builds it a second time, with a session of one rank, and calls :meth:`fetch`,
    :meth:`mean_loss`, :meth:`adjust_gradients` and :meth:`update` of that one: together they say what a step should do.
    """

    session: Session
    model: Any
    """What :meth:`bench.plugins.backend.Session.parallelize` returned."""
    optimizer: Any
    """What :meth:`bench.plugins.backend.Session.build_optimizer` returned."""
    accumulate: int = 1
    """Backward passes in a step of one rank, each of an equal part of its batch."""
    checkpoint: str = "none"
    """The way of saving that is measured after the window, see :mod:`bench.rank.checkpoint`."""
    checkpoint_folder: str = ""
    """An existing folder to save into; empty: the trial's."""

    @abstractmethod
    def fetch(self) -> Any:
        """The next batch of this rank: a tree (tuples, lists, dictionaries) of tensors. Their first dimension is the
        samples, and with N ranks, rank r has every N-th of a global batch from the r-th on."""

    @abstractmethod
    def last_samples(self) -> tuple[int, ...]:
        """The sample numbers of the batch that was fetched last, in order."""

    @abstractmethod
    def last_result(self) -> Any:
        """The mean loss over this rank's batch in the last step, as :meth:`Work.last_result` returns it."""

    @abstractmethod
    def mean_loss(self, batch: Any) -> Any:
        """The mean loss over the samples of a batch as :meth:`fetch` returns it: a scalar tensor, to differentiate."""

    def adjust_gradients(self) -> None:
        """What a step does to the gradients between their exchange and the update, such as clipping: nothing here."""
        return

    @abstractmethod
    def update(self) -> None:
        """Update the parameters by their gradients."""

    @property
    def loss_scale(self) -> float:
        """The factor of the loss in the next backward pass. A step divides gradients by it after their exchange, before
        :meth:`adjust_gradients`; where one is not finite it updates nothing, and the factor falls."""
        return 1.0

    def whole_parameters(self) -> Iterator[Any]:
        """The parameters one after the other, each whole and as it is now: it may share memory with the model's."""
        return (self.session.full_tensor(parameter) for parameter in self.model.parameters())

    def snapshot(self) -> list[Any]:
        return [parameter.to("cpu", copy=True) for parameter in self.whole_parameters()]


class Workload(ABC):
    """Declares a workload and builds it in a rank. Subclasses define :attr:`name`, :attr:`summary`, :meth:`build`."""

    name: str
    summary: str
    kind: WorkloadKind = "training"
    options: type[Options] = Options
    scalings: tuple[Scaling, ...] = ("strong", "weak")
    devices: tuple[Device, ...] = ("cpu", "cuda")
    """The devices that it can compute on. A sweep on another device runs it on the CPU."""
    uses_batch: bool = True
    """Whether the batch size matters to it; else a strong-scaling batch need not divide among the ranks."""
    keeps_results: bool = False
    """What its reference gives is a function of the case, its data and this project's code alone: results of the
    verified steps are then kept for later trials (:mod:`bench.rank.kept_results`)."""
    tolerance: float | None = None
    """The allowed deviation, instead of the backend's, where the result is not a trained model."""

    def unsupported_reason(self, case: Case) -> str | None:
        """Why it can't run the case on any machine, in one line; ``None`` where it can. Pure."""
        return self.options(**case.workload_options).unsupported_reason(case)

    def unavailable_reason(self, case: Case) -> str | None:
        """Why it can't run the case on this machine, in one line with the remedy; ``None`` where it can."""
        return self.options(**case.workload_options).unavailable_reason(case)

    def default_scaling(self, options: Options) -> Scaling:
        """The kind of scaling to measure where the user names none (pure)."""
        return self.scalings[0]

    def split_axes(self, axes: Mapping[str, tuple[Scalar, ...]]) -> list[Mapping[str, tuple[Scalar, ...]]]:
        """The options' values as products of axes: each product is swept in full (pure).

        For workloads of which a value of one option decides what other options there are.

        Args:
            axes: The values of each option that was given.

        Raises:
            ValueError: A value is refused, in one line.
        """
        return [axes]

    def flags(self, options: Options) -> tuple[str, ...]:
        """Flags that accompany the numbers of a case with these options, such as ``emulated_compute``."""
        return ()

    def prepare(self, case: Case) -> DataSource | None:
        """Prepare the data that the ranks read. Called once, before any rank starts, and on nodes that lack the data.

        Returns:
            The data, which ranks find in ``case.data``; ``None`` where they make their own.

        Raises:
            DataProblem: The data is missing or damaged.
        """
        return None

    @abstractmethod
    def build(self, case: Case, session: Session) -> Work:
        """Build this rank's share of the work. Runs in a rank.

        The same case is also built with a session of one rank, which gets the whole global batch: that is the reference
        of the same-work check. Seed random numbers by ``case.seed`` alone, so that all ranks start alike.

        Args:
            case: The case to measure.
            session: The group of ranks.
        """


__all__ = ["DataProblem", "Options", "StepParts", "TrainingWork", "Work", "Workload", "WorkloadKind"]
