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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from bench.core.same_work import Tolerance, WorkProof
from bench.plugins.workload import TrainingWork
from bench.rank.comparison import Comparison
from bench.rank.kept_results import KeptResults
from bench.rank.reference import to_dense
from bench.rank.tensors import digest_tensors


def prove_training(
    work: TrainingWork,
    make_reference: Callable[[], TrainingWork] | None,
    steps: int,
    tolerance: Tolerance,
    results: KeptResults | None = None,
) -> WorkProof:
    """Take the verified steps. Called on every rank.

    Args:
        work: The workload built for this rank, before its first step.
        make_reference: Builds it for a single process; ``None`` on all ranks but the first.
        steps: The number of steps, at least 1.
        tolerance: Of the exchange.
        results: What is kept of earlier trials, on the first rank; ``None``: nothing.
    """
    start_digest = digest_tensors(chain(work.whole_parameters(), work.model.buffers()))
    comparison = Comparison(make_reference(), work, tolerance, results or KeptResults()) if make_reference else None
    samples, losses = [], []
    with _captured_gradients(work, keep=comparison is not None) as captured, _deterministic(work, comparison):
        _follow(work, comparison)
        for _ in range(steps):
            loss_scale = work.loss_scale
            if comparison:
                comparison.begin_step(loss_scale)
            work.step()
            skipped = work.loss_scale < loss_scale
            gradients, withheld = captured.take(), _mean_withheld(work)
            samples.append(work.last_samples())
            losses.append(float(work.last_result()))
            if comparison:
                comparison.compare_gradients(gradients, withheld, skipped=skipped)
            _follow(work, comparison)
    if comparison:
        comparison.results.save()
    return WorkProof(
        samples=tuple(samples),
        losses=tuple(losses),
        digest=digest_tensors(work.whole_parameters()),
        tolerance=tolerance,
        start_digest=start_digest,
        reference=comparison.result() if comparison else None,
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


def _follow(work: TrainingWork, comparison: Comparison | None) -> None:
    """Give the reference the parameters and buffers of the ranks."""
    import torch

    with torch.no_grad():
        for number, parameter in enumerate(work.model.parameters()):
            whole = work.session.full_tensor(parameter)
            if comparison:
                comparison.follow_parameter(number, whole)
        if comparison:
            comparison.follow_buffers(work.model.buffers())


@contextmanager
def _deterministic(work: TrainingWork, comparison: Comparison | None) -> Iterator[None]:
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
