"""The comparison of the ranks' steps with a reference: what deviates most, and by how much it may.

See :mod:`bench.rank.training_proof` for what is compared. What was found before for the very same bits is taken from
:mod:`bench.rank.kept_results`; the reference then computes no gradient, and only follows the ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from bench.core.same_work import Reference, Tolerance
from bench.plugins.workload import TrainingWork
from bench.rank.kept_results import KeptResults, digest_text
from bench.rank.reference import (
    Gradient,
    Rounding,
    adjust_gradient,
    mean_gradient,
    measure_rounding,
    repeated_losses,
)
from bench.rank.tensors import add, digest_tensors, distance, is_finite, norm, same_bits, tree_tensors

MAX_DEVIATION = 1e9
"""Stands for an infinite deviation, which JSON has not."""
RANDOM_LOSS_SHARE = 1e-5
"""Two losses of the same batch that differ by more, relative to them, are of a random model."""


class Deviation(NamedTuple):
    """How far a quantity is from its reference, and how far it may be, both relative to its size."""

    value: float
    tolerance: float


def relative_deviation(difference: float, size: float, relative: float, absolute: float) -> Deviation:
    """The deviation of a quantity of which ``relative``·size + ``absolute`` is tolerated (pure).

    Args:
        difference: From its reference.
        size: Of the quantity.
        relative: The tolerance relative to the size.
        absolute: The tolerance beside it.
    """
    if size > 0 and math.isfinite(difference):
        return Deviation(min(difference / size, MAX_DEVIATION), relative + absolute / size)
    return Deviation(0.0 if difference <= absolute else MAX_DEVIATION, relative)


class _Expected(NamedTuple):
    """The gradient of a step in the reference, and how far it, and the loss, are from those in float32."""

    gradient: Gradient
    elsewhere: list[float]
    loss_elsewhere: float


class Comparison:
    """The reference on rank 0, and how far the ranks are from it."""

    def __init__(self, reference: TrainingWork, work: TrainingWork, tolerance: Tolerance, results: KeptResults) -> None:
        self.reference, self.world, self.tolerance = reference, work.session.world, tolerance
        self.results = results
        self.rounds_elsewhere = work.rounds_elsewhere
        self.loss_elsewhere = 0.0
        self.start_digest = digest_tensors(chain(reference.whole_parameters(), reference.model.buffers()))
        names, self.parameters = zip(*reference.model.named_parameters(), strict=True)
        # A session may have wrapped the model, as DDP does.
        self.names = [name.removeprefix("module.") for name in names]
        self.batch = reference.fetch()
        self.samples: list[tuple[int, ...]] = []
        self.losses: list[float] = []
        self.withheld: Sequence[Any] = [None] * len(self.parameters)
        self.before_update: list[Any] = []
        self.expected: _Expected | None = None
        self.rounding: Rounding | None = None
        self.worst, self.quantity = Deviation(0.0, tolerance.value), ""
        self.evaluation_mode = False
        self.random: str | None = None
        self.overflows, self.loss_scale = 0, 1.0
        self.state = self._digest_of_tensors(tree_tensors(self.batch), self.start_digest)
        """The digest of all that the comparison has been shown: what it finds next is a function of it."""
        self.followed: list[str] = []

    def _digest_of_tensors(self, tensors: Iterable[Any], *texts: str) -> str:
        """Of tensors, which may be ``None``; the same for all where no results are kept, which takes no time then."""
        if self.results.file is None:
            return ""
        return digest_text(*texts, *("" if tensor is None else digest_tensors([tensor]) for tensor in tensors))

    def describe_randomness(self) -> str | None:
        """How far two passes over the same samples from the same state differ; ``None`` where they are alike."""
        first, second = self.results.numbers(
            f"two losses {self.evaluation_mode} {self.state}",
            lambda: repeated_losses(self.reference, self.batch, self.world),
        )
        if abs(first - second) <= RANDOM_LOSS_SHARE * max(abs(first), abs(second)):
            return None
        # What its passes draw changes what later ones draw: none of them is left out.
        self.results = KeptResults()
        return f"two passes over a batch from the same parameters gave the losses {first:.6g} and {second:.6g}"

    def begin_step(self, loss_scale: float) -> None:
        """Take the next batch. The reference has the parameters from which the ranks take the step."""
        self.loss_scale, self.expected = loss_scale, None
        if self.samples:
            self.batch = self.reference.fetch()
        self.samples.append(self.reference.last_samples())
        self.state = self._digest_of_tensors(tree_tensors(self.batch), self.state, str(loss_scale))

    def expect(self) -> _Expected:
        """The gradient of the step in the reference, which still has the parameters from before it."""
        if self.expected is None:
            gradient = mean_gradient(self.reference, self.batch, self.world, self.loss_scale)
            self.expected = _Expected(gradient, *self._roundings_of_the_type(gradient))
        return self.expected

    def _roundings_of_the_type(self, gradient: Gradient) -> tuple[list[float], float]:
        """By how much each expected gradient, and the loss, is another one in float32, where the ranks may leave out
        roundings."""
        in_float32 = self.reference.in_float32() if self.rounds_elsewhere else None
        if in_float32 is None:
            return [0.0] * len(self.parameters), 0.0
        with in_float32:
            exact = mean_gradient(self.reference, self.batch, self.world)
        loss_share = abs(exact.loss - gradient.loss) / max(abs(gradient.loss), 1e-30)
        return [distance(*pair) for pair in zip(exact.tensors, gradient.tensors, strict=True)], loss_share

    def _measure_rounding(self) -> Rounding | None:
        """The rounding of the model, measured in the first step in which that is possible."""
        key = f"rounding {self.state}"
        measured: list[Rounding | None] = []

        def measure() -> tuple[float, ...]:
            # It leaves other gradients and buffers behind: the expected gradient comes first.
            self.expect()
            rounding = measure_rounding(self.reference, self.batch, self.world, self.loss_scale)
            measured.append(rounding)
            if rounding is None:
                return ()
            self.results.arithmetic(key, rounding.arithmetic)
            return (rounding.share, rounding.loss_share, rounding.bound, *rounding.by_parameter)

        numbers = self.results.numbers(key, measure)
        if measured or not numbers:
            return measured[0] if measured else None
        share, loss_share, bound, *by_parameter = numbers
        return Rounding(by_parameter, share, loss_share, bound, self.results.arithmetic(key) or "")

    def compare_gradients(self, gradients: Sequence[Any], withheld: Sequence[Any], *, skipped: bool) -> None:
        """Compare the ranks' gradients with the reference's, and update the reference by them.

        Args:
            gradients: As they reached the optimizer.
            withheld: What the exchange has kept back until now, the mean over the ranks.
            skipped: The ranks updated nothing, since a scaled gradient overflowed.
        """
        loss, loss_elsewhere, is_finite = self.results.numbers(f"step {self.state}", self._summarize_expected)
        self.losses.append(loss)
        self.loss_elsewhere = max(self.loss_elsewhere, loss_elsewhere)
        if self.rounding is None and self.random is None and is_finite:
            self.rounding = self._measure_rounding()
        self.state = self._digest_of_tensors(withheld, self.state, str(skipped))
        self._keep_parameters()
        if skipped and not is_finite:
            self.overflows += 1
            return
        adjusted = _Adjusted(self, withheld)
        digests = [self._digest_of_tensors([gradient]) for gradient in gradients]
        for number, (actual, digest) in enumerate(zip(gradients, digests, strict=True)):
            key = f"gradient {number} {self.state} {digest}"
            self._note("gradient", number, *self.results.numbers(key, partial(adjusted.deviation, number, actual)))
        for parameter, actual in zip(self.parameters, gradients, strict=True):
            parameter.grad = None if actual is None else actual.to(parameter.dtype)
        self.state = digest_text(self.state, *digests) if self.state else ""
        self.withheld = withheld
        self.reference.update()

    def _keep_parameters(self) -> None:
        """Into the same memory in each step: to get new memory from the system takes longer than to copy."""
        self.before_update = self.before_update or [parameter.detach().clone() for parameter in self.parameters]
        for kept, parameter in zip(self.before_update, self.parameters, strict=True):
            kept.copy_(parameter.detach())

    def _summarize_expected(self) -> tuple[float, float, float]:
        expected = self.expect()
        return expected.gradient.loss, expected.loss_elsewhere, float(_is_finite(expected.gradient))

    def follow_parameter(self, number: int, actual: Any) -> None:
        """Take over a parameter of the ranks; after a step it is compared first."""
        expected = self.parameters[number].detach()
        if same_bits(actual, expected) and (self.quantity or not self.before_update) and is_finite(expected):
            # It deviates by nothing, and follows from what the digest holds already: comparing is faster than hashing.
            self.followed.append("")
            return
        digest = self._digest_of_tensors([actual])
        if self.before_update:
            key = f"update {number} {self.state} {digest}"
            self._note("update", number, *self.results.numbers(key, partial(self._update_deviation, number, actual)))
        expected.copy_(actual)
        self.followed.append(digest)

    def follow_buffers(self, actual: Iterable[Any]) -> None:
        """Take over the buffers of the ranks, after all parameters."""
        buffers = list(actual)
        for buffer, value in zip(self.reference.model.buffers(), buffers, strict=True):
            buffer.copy_(value)
        self.state, self.followed = self._digest_of_tensors(buffers, self.state, *self.followed), []

    def _update_deviation(self, number: int, actual: Any) -> tuple[float, float]:
        import torch

        expected = self.parameters[number].detach()
        spacing = torch.finfo(expected.dtype).eps * norm([expected])
        moved = distance(expected, self.before_update[number])
        return relative_deviation(distance(actual, expected), moved, self.tolerance.value, spacing)

    def _note(self, what: str, number: int, value: float, tolerance: float) -> None:
        if not self.quantity or value / tolerance > self.worst.value / self.worst.tolerance:
            self.worst = Deviation(value, tolerance)
            self.quantity = f"{what} of {self.names[number]} in step {len(self.samples) - 1}"

    def result(self) -> Reference:
        rounding = self.rounding
        return Reference(
            samples=tuple(self.samples),
            losses=tuple(self.losses),
            deviation=self.worst.value,
            quantity=self.quantity,
            tolerance=self.worst.tolerance,
            loss_tolerance=self.tolerance.value
            + 2 * (self.loss_elsewhere + (rounding.loss_share if rounding else 0.0)),
            rounding=rounding.share if rounding else None,
            arithmetic=rounding.arithmetic if rounding else None,
            start_digest=self.start_digest,
            evaluation_mode=self.evaluation_mode,
            random=self.random,
            overflows=self.overflows,
            kept=self.results.computed == 0,
            coupled=_explain_coupling(rounding) if rounding and not rounding.share <= rounding.bound else None,
        )


class _Adjusted:
    """What the gradients of the ranks are compared with, computed when the first one is.

    Args:
        comparison: In a step that the ranks have taken.
        withheld: What the exchange has kept back until now, the mean over the ranks.
    """

    def __init__(self, comparison: Comparison, withheld: Sequence[Any]) -> None:
        self.comparison, self.withheld = comparison, withheld
        self._computed: tuple[Gradient, list[float]] | None = None

    def _compute(self) -> tuple[Gradient, list[float]]:
        """The gradients, and what each may deviate by rounding."""
        comparison, expected = self.comparison, self.comparison.expect()
        parts = zip(expected.gradient.tensors, comparison.withheld, self.withheld, strict=True)
        # What is kept back is of gradients that are scaled.
        share = 1 / comparison.loss_scale
        sent = [add(add(tensor, before, share), after, -share) for tensor, before, after in parts]
        gradient = adjust_gradient(comparison.reference, expected.gradient._replace(tensors=sent))
        own = comparison.rounding.by_parameter if comparison.rounding else [0.0] * len(sent)
        sizes = expected.gradient.sizes
        adjusted = sum(gradient.sizes) / sum(sizes) if any(sizes) else 1.0
        return gradient, [a + adjusted * b for a, b in zip(own, expected.elsewhere, strict=True)]

    def deviation(self, number: int, actual: Any) -> tuple[float, float]:
        """How far a gradient of the ranks is from its reference, and how far it may be."""
        self._computed = self._computed or self._compute()
        gradient, rounded = self._computed
        tolerance = self.comparison.tolerance
        absolute = tolerance.absolute * math.sqrt(self.comparison.parameters[number].numel()) + 2 * rounded[number]
        difference = distance(actual, gradient.tensors[number])
        return relative_deviation(difference, gradient.sizes[number], tolerance.value, absolute)


def _is_finite(gradient: Gradient) -> bool:
    return all(tensor is None or is_finite(tensor) for tensor in gradient.tensors)


def _explain_coupling(rounding: Rounding) -> str:
    return (
        f"in a single process the gradient of a batch deviates by {rounding.share:.2g} from the mean of its halves', "
        f"more than {rounding.arithmetic} rounds: its samples are not independent (as in batch normalization), or its "
        "loss is no mean over samples"
    )
