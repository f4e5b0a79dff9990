"""A training step that is captured once as a CUDA graph and replayed: the host launches it at once.

The graph holds the forward and backward passes, the exchange of gradients (NCCL's, on the device), clipping and the
update. Outside are fetching a batch, which is copied to where the graph reads it, and an update that the host decides
on: with a loss scale, a schedule of the learning rate, or an optimizer whose state is not known to begin at 0.

As PyTorch's notes on CUDA graphs ask for (CUDA semantics, "Usage with DistributedDataParallel"): the model is made
parallel, warmed up by 11 steps and captured on one side stream; gradients are ``None`` before the capture, so that the
graph allocates them; optimizers are ``capturable``; autocast does not cache. Errors of a capture are looked for in this
thread alone, since the thread that watches NCCL queries events meanwhile.

A replay reads and writes the memory that was captured: what a step changes is restored in place, never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

WARMUP_STEPS = 11
ZERO_STATE_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop")
"""Optimizers of torch whose state is zeros before their first step, as these are by default."""


class GraphCapture(Protocol):
    """How work of a device is captured."""

    def on_side_stream(self) -> AbstractContextManager[None]:
        """Inside, work is enqueued on the stream of the capture, after what was enqueued before."""

    def record(self, work: Callable[[], Sequence[Any]]) -> tuple[Sequence[Any], Callable[[], None]]:
        """Capture work without doing it.

        Args:
            work: Enqueues the work, and returns the tensors that it makes.

        Returns:
            These tensors, and a function that does the work again, into their memory.
        """


class CudaCapture:
    """Captures by ``torch.cuda.graph`` on a stream of its own."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda
        self._stream = torch.cuda.Stream()

    @contextmanager
    def on_side_stream(self) -> Iterator[None]:
        self._stream.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(self._stream):
            yield
        self._cuda.current_stream().wait_stream(self._stream)

    def record(self, work: Callable[[], Sequence[Any]]) -> tuple[Sequence[Any], Callable[[], None]]:
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            made = work()
        return made, graph.replay


class CaptureError(RuntimeError):
    """A step can't be captured."""


class GraphedStep:
    """One step as a graph.

    Args:
        capture: How it is captured.
        step: ``step(batch)`` takes the step, and returns its loss and those of its backward passes: scalar tensors.
        batch: The first batch; all others must have its shapes.
        model: The parallel model.

    Raises:
        CaptureError: The step can't be captured.
    """

    def __init__(self, capture: GraphCapture, step: Callable[[Any], Sequence[Any]], batch: Any, model: Any) -> None:
        self._model, self._training, self._is_on = model, model.training, True
        self._inputs, static = _copied(batch)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]
        with capture.on_side_stream():
            for _ in range(WARMUP_STEPS):
                step(static)
            model.zero_grad(set_to_none=True)

        def step_of_graph() -> list[Any]:
            losses = list(step(static))
            return [*losses, *(parameter.grad for parameter in trained if parameter.grad is not None)]

        try:
            made, self._replay = capture.record(step_of_graph)
        except RuntimeError as problem:
            # Leaving a capture that has failed raises an error of its own.
            first = problem.__context__ if isinstance(problem.__context__, RuntimeError) else problem
            reason = next(iter(str(first).splitlines()), type(first).__name__)
            raise CaptureError(f"cuda_graph: a step can't be captured: {reason}") from problem
        self._gradients = [(parameter, parameter.grad) for parameter in trained if parameter.grad is not None]
        self.losses = made[: len(made) - len(self._gradients)]
        copy_in_place((*model.parameters(), *model.buffers()), before)

    @property
    def applies(self) -> bool:
        """Whether a step can be replayed now: the model is in the mode in which it was captured."""
        return self._is_on and bool(self._model.training == self._training)

    def load(self, batch: Any) -> None:
        """Copy a batch to where the graph reads it."""
        from torch.utils._pytree import tree_leaves

        for static, leaf in zip(self._inputs, tree_leaves(batch), strict=True):
            if static.shape != leaf.shape:
                raise ValueError(f"cuda_graph: a batch of shape {tuple(leaf.shape)} after one of {tuple(static.shape)}")
            static.copy_(leaf, non_blocking=True)

    def replay(self) -> None:
        """Take the step with the batch that was loaded last. The parameters then have its gradients."""
        self._replay()
        # Steps that were taken as they are written have left others.
        if self._gradients and self._gradients[0][0].grad is not self._gradients[0][1]:
            for parameter, gradient in self._gradients:
                parameter.grad = gradient

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Inside, steps are taken as they are written."""
        before, self._is_on = self._is_on, False
        try:
            yield
        finally:
            self._is_on = before


def holds_update(optimizer: Any) -> bool:
    """Whether a graph can hold the update of an optimizer of torch: it decides nothing on the host, and its state can
    be set back to what it was before its first step."""
    import torch

    if type(optimizer) not in [getattr(torch.optim, name) for name in ZERO_STATE_OPTIMIZERS]:
        return False
    groups = optimizer.param_groups
    if isinstance(optimizer, torch.optim.SGD):
        # Its first step takes the gradient as it is, a later one dampens it.
        return not any(group["dampening"] for group in groups)
    return all(group["capturable"] for group in groups)


def clear_state(optimizer: Any) -> None:
    """Set the state of an optimizer that :func:`holds_update` back to what it was before its first step, in place."""
    for state in optimizer.state.values():
        for value in state.values():
            if hasattr(value, "zero_"):
                value.zero_()


def restore_state(optimizer: Any, saved: dict[str, Any]) -> None:
    """Set the state of an optimizer to a copy of its ``state_dict()``, in place."""
    live = optimizer.state_dict()["state"]
    for key, values in saved["state"].items():
        tensors = [name for name, value in values.items() if hasattr(value, "copy_")]
        copy_in_place([live[key][name] for name in tensors], [values[name] for name in tensors])


def copy_in_place(tensors: Sequence[Any], values: Sequence[Any]) -> None:
    """Give tensors other values, in their own memory."""
    import torch

    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


def _copied(batch: Any) -> tuple[list[Any], Any]:
    """The tensors of a copy of a batch, and that copy."""
    from torch.utils._pytree import tree_flatten, tree_unflatten

    leaves, structure = tree_flatten(batch)
    other = next((leaf for leaf in leaves if not hasattr(leaf, "copy_")), None)
    if other is not None:
        raise CaptureError(
            f"cuda_graph: a batch has a {type(other).__name__} beside its tensors, of which a graph keeps the first one"
        )
    copies = [leaf.detach().clone() for leaf in leaves]
    return copies, tree_unflatten(copies, structure)
