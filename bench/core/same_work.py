"""The proof that ranks did the same work, and the judgement of it."""

from __future__ import annotations

from typing import Literal

from bench.core.bounds import Count
from bench.core.frozen_model import FrozenModel


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
    kept: bool = False
    """Nothing of it was computed in this trial: every bit that the ranks showed was that of an earlier trial of
    the same case, code and libraries, of which the results were kept (:mod:`bench.rank.kept_results`)."""
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
