"""What a training step should do, computed by a single process: a gradient, and the rounding of the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from bench.plugins.workload import TrainingWork
from bench.rank.tensors import cut_batch, distance, norm, sample_count, take_rows

MIN_ROUNDING_BOUND = 1e-3
ROUNDING_SPACINGS = 16
HIDDEN_SPACINGS = {"tf32": 2.0**-10}
"""Spacings of arithmetics that no type of torch shows: TensorFloat-32 has 10 bits of a float32's mantissa."""


class Gradient(NamedTuple):
    """The mean gradient of a global batch, by parameter; ``None`` where a parameter has none."""

    tensors: list[Any]
    sizes: list[float]
    """The mean of ‖·‖₂ over the gradients of the ranks' batches."""
    loss: float


class Rounding(NamedTuple):
    """The rounding of a model's arithmetic: a batch's gradient and loss beside the mean of its halves'."""

    by_parameter: list[float]
    """‖g(batch) − mean of g(halves)‖₂ of each parameter."""
    share: float
    """The same over all parameters, relative to ‖g(batch)‖₂."""
    loss_share: float
    bound: float
    """The share that the floating-point type explains."""
    arithmetic: str
    """The type of the fewest digits in the forward pass."""


def mean_gradient(reference: TrainingWork, batch: Any, world: int, loss_scale: float = 1.0) -> Gradient:
    """The gradient of a global batch as the mean over those that ``world`` ranks take of it.

    Each rank's batch is taken in as many pieces as its backward passes have, so that no more memory is needed than a
    rank needs, and the arithmetic is a rank's.

    Args:
        reference: The work of a single process.
        batch: The global batch.
        world: The number of ranks.
        loss_scale: The ranks' :attr:`~bench.plugins.workload.TrainingWork.loss_scale`.
    """
    parameters = list(reference.model.parameters())
    total: list[Any] = [None] * len(parameters)
    sizes = [0.0] * len(parameters)
    losses = []
    restore = _restorer_of_buffers(reference)
    for rank in range(world):
        restore()
        rank_batch = take_rows(batch, slice(rank, None, world))
        pieces = cut_batch(rank_batch, reference.accumulate)
        losses.append(backward(reference, pieces, reference.accumulate, loss_scale))
        for number, gradient in enumerate(dense_gradients(reference)):
            if gradient is not None:
                sizes[number] += norm([gradient]) / world
                share = gradient / world
                total[number] = share if total[number] is None else total[number].add_(share)
    return Gradient(total, sizes, math.fsum(losses) / world)


def adjust_gradient(reference: TrainingWork, gradient: Gradient) -> Gradient:
    """The gradient after what a step does to it between exchange and update, such as clipping."""
    before = norm(gradient.tensors)
    for parameter, tensor in zip(reference.model.parameters(), gradient.tensors, strict=True):
        parameter.grad = tensor
    reference.adjust_gradients()
    adjusted = dense_gradients(reference)
    scale = norm(adjusted) / before if before else 1.0
    return Gradient(adjusted, [size * scale for size in gradient.sizes], gradient.loss)


def measure_rounding(reference: TrainingWork, batch: Any, world: int, loss_scale: float = 1.0) -> Rounding | None:
    """The rounding of a model's arithmetic, from the batch of one backward pass of a rank (of two samples at least).

    Args:
        reference: The work of a single process.
        batch: The global batch.
        world: The number of ranks.
        loss_scale: The ranks' :attr:`~bench.plugins.workload.TrainingWork.loss_scale`.

    Returns:
        ``None`` where the global batch is a single sample.
    """
    import torch

    piece = next(cut_batch(take_rows(batch, slice(0, None, world)), reference.accumulate))
    piece = piece if sample_count(piece) > 1 else batch
    samples = sample_count(piece) // 2 * 2
    if samples < 2:
        return None
    piece = take_rows(piece, slice(0, samples))
    restore = _restorer_of_buffers(reference)
    dtypes = _forward_dtypes(reference, piece)
    restore()
    whole_loss = backward(reference, [piece], 1, loss_scale)
    whole = [None if gradient is None else gradient.clone() for gradient in dense_gradients(reference)]

    def halves() -> Iterator[Any]:
        for half in range(2):
            restore()
            yield take_rows(piece, slice(half, None, 2))

    halves_loss = backward(reference, halves(), 2, loss_scale)
    restore()
    by_parameter = [distance(*pair) for pair in zip(dense_gradients(reference), whole, strict=True)]
    size = norm(whole)
    spacings = {str(dtype).removeprefix("torch."): torch.finfo(dtype).eps for dtype in dtypes or {torch.float32}}
    if reference.arithmetic in HIDDEN_SPACINGS:
        spacings[reference.arithmetic] = HIDDEN_SPACINGS[reference.arithmetic]
    coarsest = max(spacings, key=lambda name: spacings[name])
    return Rounding(
        by_parameter=by_parameter,
        share=math.hypot(*by_parameter) / size if size else 0.0,
        loss_share=abs(whole_loss - halves_loss) / max(abs(whole_loss), abs(halves_loss), 1e-30),
        bound=max(MIN_ROUNDING_BOUND, ROUNDING_SPACINGS * spacings[coarsest]),
        arithmetic=coarsest,
    )


def repeated_losses(reference: TrainingWork, batch: Any, world: int) -> tuple[float, float]:
    """The losses of two forward passes of the same samples from the same state."""
    import torch

    piece = next(cut_batch(take_rows(batch, slice(0, None, world)), reference.accumulate))
    restore = _restorer_of_buffers(reference)
    losses = []
    with torch.no_grad():
        for _ in range(2):
            losses.append(float(reference.mean_loss(piece)))
            restore()
    return losses[0], losses[1]


def backward(reference: TrainingWork, pieces: Iterable[Any], count: int, loss_scale: float = 1.0) -> float:
    """Leave the mean gradient of ``count`` equal pieces in the reference's parameters, and return their mean loss.

    The loss is multiplied by ``loss_scale`` before each backward pass, and the gradient divided by it.
    """
    reference.model.zero_grad()
    losses = []
    for piece in pieces:
        loss = reference.mean_loss(piece)
        mean = loss / count if count > 1 else loss
        (mean * loss_scale if loss_scale != 1 else mean).backward()
        losses.append(float(loss.detach()))
    if loss_scale != 1:
        for parameter in reference.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(loss_scale)
    return math.fsum(losses) / count


def _restorer_of_buffers(work: TrainingWork) -> Callable[[], None]:
    """A function that restores the model's buffers to what they are now: a forward pass may change them."""
    import torch

    saved = [buffer.detach().clone() for buffer in work.model.buffers()]

    def restore() -> None:
        with torch.no_grad():
            for buffer, value in zip(work.model.buffers(), saved, strict=True):
                buffer.copy_(value)

    return restore


def dense_gradients(work: TrainingWork) -> list[Any]:
    """The gradients of a model that is whole in this process; ``None`` where a parameter has none."""
    return [to_dense(parameter.grad) for parameter in work.model.parameters()]


def to_dense(gradient: Any) -> Any:
    """A gradient without its sparse layout."""
    return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


def _forward_dtypes(reference: TrainingWork, batch: Any) -> set[Any]:
    """The floating-point types that a forward pass computes in."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    dtypes: set[Any] = set()

    class Observer(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            tensors = (leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            dtypes.update(tensor.dtype for tensor in tensors if tensor.is_floating_point())
            return result

    with torch.no_grad(), Observer():
        reference.mean_loss(batch)
    return dtypes
