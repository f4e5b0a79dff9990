"""Proves that a step of all ranks does the work of a single process's step, from equal parameters at each step.

Rank 0 keeps a model of its own, the reference. Before each verified step it gets the parameters and buffers that the
ranks have; then both take the same global batch, and three things are compared:

1. the loss,
2. the exchanged gradient as it reaches the optimizer, parameter by parameter,
3. the updated parameters, where the reference's optimizer has updated its own by the ranks' gradient.

So an error is found where it arises, and rounding is not amplified from step to step. Parameters after several steps
would not do: Adam divides a gradient by its size, so that the rounding of a gradient near zero moves a parameter as far
as a gradient does.

With g_r the gradient of rank r's batch in the reference, the exchanged gradient g of n elements has to agree within

    ‖g − mean(g_r)‖₂ ≤ τ·s + a·√n + 2ρ,   s = mean ‖g_r‖₂.

τ and a are the backend's (:class:`bench.core.same_work.Tolerance`): an exchange that rounds states them. To an exchange
that keeps a part back for later steps (:meth:`bench.plugins.backend.Session.withheld_gradient`), that part is added.
ρ is the rounding of the model's own arithmetic: ‖g(batch) − mean of g(halves of the batch)‖₂, measured in the
reference. An updated parameter p has to agree within τ·‖Δp‖₂ + ε·‖p‖₂, with ε the spacing of its type.

ρ also shows whether samples are independent. Where it exceeds what the floating-point type in use explains (16 ε, at
least 1e-3, of ‖g‖₂), as with batch normalization or with a loss that is a sum, no exchange of gradients makes ranks do
the work of a single process.

Where steps scale their loss (:attr:`bench.plugins.workload.TrainingWork.loss_scale`), the reference scales its own
alike, so that what is too small or too large for float16 is so in both. A step whose gradient overflows in both is
skipped in both; then only the parameters are compared, which stay.

The reference executes operations as they are written: neither compiled nor replayed from a graph, and no activation is
recomputed (:attr:`bench.plugins.backend.Options.execution`). A compiler keeps numbers in float32 that bfloat16 or
float16 would have rounded. There ρ is larger by what all these roundings come to in a step: ‖g − g in float32‖₂ of the
same batch, measured in the reference.

Dropout draws other numbers in each process. A model that is random in training mode is verified in evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from bench.core.same_work import Reference, Tolerance, WorkProof
from bench.plugins.workload import TrainingWork
from bench.rank.reference import (
    Gradient,
    Rounding,
    adjust_gradient,
    mean_gradient,
    measure_rounding,
    repeated_losses,
    to_dense,
)
from bench.rank.tensors import add, digest_tensors, distance, norm

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


def prove_training(
    work: TrainingWork, make_reference: Callable[[], TrainingWork] | None, steps: int, tolerance: Tolerance
) -> WorkProof:
    """Take the verified steps. Called on every rank.

    Args:
        work: The workload built for this rank, before its first step.
        make_reference: Builds it for a single process; ``None`` on all ranks but the first.
        steps: The number of steps, at least 1.
        tolerance: Of the exchange.
    """
    start_digest = digest_tensors([*work.snapshot(), *work.model.buffers()])
    comparison = _Comparison(make_reference(), work, tolerance) if make_reference else None
    samples, losses = [], []
    with _captured_gradients(work, keep=comparison is not None) as captured, _deterministic(work, comparison):
        _follow(work, comparison)
        for _ in range(steps):
            loss_scale = work.loss_scale
            if comparison:
                comparison.expect_step(loss_scale)
            work.step()
            skipped = work.loss_scale < loss_scale
            gradients, withheld = captured.take(), _mean_withheld(work)
            samples.append(work.last_samples())
            losses.append(float(work.last_result()))
            if comparison:
                comparison.compare_gradients(gradients, withheld, skipped=skipped)
            _follow(work, comparison)
    return WorkProof(
        samples=tuple(samples),
        losses=tuple(losses),
        digest=digest_tensors(work.snapshot()),
        tolerance=tolerance,
        start_digest=start_digest,
        reference=comparison.result() if comparison else None,
    )


class _Comparison:
    """The reference on rank 0, and how far the ranks are from it."""

    def __init__(self, reference: TrainingWork, work: TrainingWork, tolerance: Tolerance) -> None:
        self.reference, self.world, self.tolerance = reference, work.session.world, tolerance
        self.rounds_elsewhere = work.rounds_elsewhere
        self.elsewhere: list[float] = []
        self.loss_elsewhere = 0.0
        self.start_digest = digest_tensors([*reference.snapshot(), *reference.model.buffers()])
        names, self.parameters = zip(*reference.model.named_parameters(), strict=True)
        # A session may have wrapped the model, as DDP does.
        self.names = [name.removeprefix("module.") for name in names]
        self.batch = reference.fetch()
        self.samples: list[tuple[int, ...]] = []
        self.losses: list[float] = []
        self.expected = Gradient([], [], 0.0)
        self.withheld: Sequence[Any] = [None] * len(self.parameters)
        self.before_update: list[Any] = []
        self.rounding: Rounding | None = None
        self.worst, self.quantity = Deviation(0.0, tolerance.value), ""
        self.evaluation_mode = False
        self.random: str | None = None
        self.overflows, self.loss_scale = 0, 1.0

    def describe_randomness(self) -> str | None:
        """How far two passes over the same samples from the same state differ; ``None`` where they are alike."""
        first, second = repeated_losses(self.reference, self.batch, self.world)
        if abs(first - second) <= RANDOM_LOSS_SHARE * max(abs(first), abs(second)):
            return None
        return f"two passes over a batch from the same parameters gave the losses {first:.6g} and {second:.6g}"

    def expect_step(self, loss_scale: float) -> None:
        """Compute the reference's gradient of the next step, at the parameters that it has."""
        self.loss_scale = loss_scale
        if self.samples:
            self.batch = self.reference.fetch()
        self.samples.append(self.reference.last_samples())
        self.expected = mean_gradient(self.reference, self.batch, self.world, loss_scale)
        self.losses.append(self.expected.loss)
        self.elsewhere = self._roundings_of_the_type()
        if self.rounding is None and self.random is None and _is_finite(self.expected):
            self.rounding = measure_rounding(self.reference, self.batch, self.world, loss_scale)

    def _roundings_of_the_type(self) -> list[float]:
        """By how much each expected gradient is another one in float32, where the ranks may leave out roundings."""
        in_float32 = self.reference.in_float32() if self.rounds_elsewhere else None
        if in_float32 is None:
            return [0.0] * len(self.parameters)
        with in_float32:
            exact = mean_gradient(self.reference, self.batch, self.world)
        size = max(abs(self.expected.loss), 1e-30)
        self.loss_elsewhere = max(self.loss_elsewhere, abs(exact.loss - self.expected.loss) / size)
        return [distance(*pair) for pair in zip(exact.tensors, self.expected.tensors, strict=True)]

    def compare_gradients(self, gradients: Sequence[Any], withheld: Sequence[Any], *, skipped: bool) -> None:
        """Compare the ranks' gradients with the reference's, and update the reference by them.

        Args:
            gradients: As they reached the optimizer.
            withheld: What the exchange has kept back until now, the mean over the ranks.
            skipped: The ranks updated nothing, since a scaled gradient overflowed.
        """
        self.before_update = [parameter.detach().clone() for parameter in self.parameters]
        if skipped and not _is_finite(self.expected):
            self.overflows += 1
            return
        parts = zip(self.expected.tensors, self.withheld, withheld, strict=True)
        # What is kept back is of gradients that are scaled.
        share = 1 / self.loss_scale
        sent = [add(add(tensor, before, share), after, -share) for tensor, before, after in parts]
        self.withheld = withheld
        expected = adjust_gradient(self.reference, self.expected._replace(tensors=sent))
        rounding = self.rounding.by_parameter if self.rounding else [0.0] * len(self.parameters)
        adjusted = sum(expected.sizes) / sum(self.expected.sizes) if any(self.expected.sizes) else 1.0
        for number, actual in enumerate(gradients):
            parameter = self.parameters[number]
            rounded = rounding[number] + adjusted * self.elsewhere[number]
            absolute = self.tolerance.absolute * math.sqrt(parameter.numel()) + 2 * rounded
            difference = distance(actual, expected.tensors[number])
            self._note(f"gradient of {self.names[number]}", difference, expected.sizes[number], absolute)
            parameter.grad = None if actual is None else actual.to(parameter.dtype)
        self.reference.update()

    def follow_parameter(self, number: int, actual: Any) -> None:
        """Take over a parameter of the ranks; after a step it is compared first."""
        import torch

        expected = self.parameters[number].detach()
        if self.before_update:
            spacing = torch.finfo(expected.dtype).eps * norm([expected])
            moved = distance(expected, self.before_update[number])
            self._note(f"update of {self.names[number]}", distance(actual, expected), moved, spacing)
        expected.copy_(actual)

    def _note(self, quantity: str, difference: float, size: float, absolute: float) -> None:
        found = relative_deviation(difference, size, self.tolerance.value, absolute)
        if not self.quantity or found.value / found.tolerance > self.worst.value / self.worst.tolerance:
            self.worst, self.quantity = found, f"{quantity} in step {len(self.samples) - 1}"

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
            coupled=_explain_coupling(rounding) if rounding and not rounding.share <= rounding.bound else None,
        )


def _is_finite(gradient: Gradient) -> bool:
    return all(tensor is None or bool(tensor.isfinite().all()) for tensor in gradient.tensors)


def _explain_coupling(rounding: Rounding) -> str:
    return (
        f"in a single process the gradient of a batch deviates by {rounding.share:.2g} from the mean of its halves', "
        f"more than {rounding.arithmetic} rounds: its samples are not independent (as in batch normalization), or its "
        "loss is no mean over samples"
    )


def _mean_withheld(work: TrainingWork) -> list[Any]:
    """What the exchange keeps back of each parameter's gradient, the mean over the ranks; ``None``: nothing."""
    session = work.session
    own = [session.withheld_gradient(parameter) for parameter in work.model.parameters()]
    return [None if part is None else session.all_reduce_sum(part.detach().clone()) / session.world for part in own]


class _Capture:
    """Keeps the whole gradients that the optimizer of a model was given last; on ranks that keep none, ``None``."""

    def __init__(self, work: TrainingWork, *, keep: bool) -> None:
        self.work, self.keep = work, keep
        self.parameters = list(work.model.parameters())
        self.own = {id(parameter) for parameter in self.parameters}
        self.gradients: list[Any] | None = None

    def before_update(self, optimizer: Any, *_: Any) -> None:
        """A hook of all optimizers. One that wraps another calls it twice, the second time with exchanged gradients."""
        if any(id(parameter) in self.own for group in optimizer.param_groups for parameter in group["params"]):
            self.gradients = self._read()

    def take(self) -> list[Any]:
        """The gradients of the last step."""
        # An optimizer that is not torch's calls no hook, and leaves the gradients where they are.
        gradients = self._read() if self.gradients is None else self.gradients
        self.gradients = None
        return gradients

    def _read(self) -> list[Any]:
        gradients = []
        for parameter in self.parameters:
            gradient = to_dense(self.work.session.gradient(parameter))
            # Of shards, every rank takes part in making the whole.
            whole = None if gradient is None else self.work.session.full_tensor(gradient)
            gradients.append(whole.detach().clone() if self.keep and whole is not None else None)
        return gradients


@contextmanager
def _captured_gradients(work: TrainingWork, *, keep: bool) -> Iterator[_Capture]:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    captured = _Capture(work, keep=keep)
    handle = register_optimizer_step_pre_hook(captured.before_update)
    try:
        yield captured
        # The hooks are those of the process, and another of its threads may be a rank.
        work.session.barrier()
    finally:
        handle.remove()


def _follow(work: TrainingWork, comparison: _Comparison | None) -> None:
    """Give the reference the parameters and buffers of the ranks."""
    import torch

    with torch.no_grad():
        for number, parameter in enumerate(work.model.parameters()):
            whole = work.session.full_tensor(parameter)
            if comparison:
                comparison.follow_parameter(number, whole)
        if comparison:
            for buffer, actual in zip(comparison.reference.model.buffers(), work.model.buffers(), strict=True):
                buffer.copy_(actual)


@contextmanager
def _deterministic(work: TrainingWork, comparison: _Comparison | None) -> Iterator[None]:
    """Where the model is random in training mode, both models are in evaluation mode inside."""
    is_random = comparison is not None and comparison.describe_randomness() is not None
    if not work.session.largest(float(is_random)):
        yield
        return
    with _evaluation_mode(work.model):
        if comparison is None:
            yield
            return
        with _evaluation_mode(comparison.reference.model):
            comparison.evaluation_mode = True
            if (difference := comparison.describe_randomness()) is not None:
                comparison.random = f"the model is random in evaluation mode too: {difference}"
            yield


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Modules are in evaluation mode inside, so that dropout is off, but for two kinds.

    Batch normalization would hide that samples are not independent, and cuDNN has no backward pass of a recurrent
    module in evaluation mode: that one's dropout is set to 0.
    """
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.rnn import RNNBase

    changed: list[tuple[Any, str, Any]] = []
    for module in model.modules():
        if isinstance(module, RNNBase):
            changed.append((module, "dropout", module.dropout))
            module.dropout = 0.0
        elif module.training and not isinstance(module, _NormBase):
            changed.append((module, "training", True))
            module.training = False
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)
