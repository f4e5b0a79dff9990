"""How a model's operations are executed: compiled, replayed from CUDA graphs, with activations recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.core.records import Reading
from bench.rank.blocks import recomputed_blocks

GRAPH_WARMUP_PASSES = 11
"""As PyTorch's documentation of CUDA graphs asks for where DistributedDataParallel is used."""


class Recomputation:
    """Activations inside a model's blocks are recomputed in the backward pass (Chen et al. 2016, arXiv:1604.06174).

    The blocks are changed in place, before the model is parallel.

    Args:
        model: The model.

    Raises:
        ValueError: It has no blocks.
    """

    def __init__(self, model: Any) -> None:
        self.active = True
        blocks = recomputed_blocks(model)
        if not blocks:
            raise ValueError("recompute=blocks: the model has no blocks, that is, no modules inside it with parameters")
        for block in blocks:
            block.forward = partial(self._forward, block.forward)

    def _forward(self, forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        from torch.utils.checkpoint import checkpoint

        if not self.active:
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Inside, activations are kept."""
        self.active = False
        try:
            yield
        finally:
            self.active = True


class CompiledModel:
    """A parallel model compiled by ``torch.compile``, at its first calls.

    Not by ``Module.compile``: of a module of torch's own, such as ``nn.Sequential``, that compiles nothing (2.13.0).

    Args:
        model: The parallel model.
        mode: A mode of ``torch.compile``.
        device: The session's device.
    """

    def __init__(self, model: Any, mode: str, device: str) -> None:
        import torch
        import torch._inductor.config as inductor

        if device == "cpu":
            # Else each rank starts a pool of compiling processes, which share its core and outlive it.
            inductor.compile_threads = 1
        self.call = torch.compile(model, mode=mode)

    def readings(self) -> tuple[Reading, ...]:
        """How long this process has compiled until now, and how many graphs."""
        try:
            from torch._dynamo.utils import calculate_time_spent, counters

            spent_s = float(calculate_time_spent().get("total_wall_time", 0.0))
            graphs = counters["stats"]["unique_graphs"]
            cached = counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"]
        # These are no public names of torch's.
        except Exception as problem:
            reason = f"torch does not tell it: {type(problem).__name__}"
            return (Reading(name="compile_time", value=None, unit="s", reason=reason),)
        return (
            Reading(name="compile_time", value=spent_s, unit="s"),
            Reading(name="compiled_graphs", value=graphs, unit="1"),
            Reading(name="compiled_graphs_from_cache", value=min(cached, graphs), unit="1"),
        )


class PeekedFeed:
    """A feed (:class:`bench.workloads.training.Feed`) whose first batch has been looked at before it is due."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed
        self.first: Any = feed.next()
        self._pending = True

    def next(self) -> tuple[Any, Any]:
        batch: tuple[Any, Any] = self.first if self._pending else self._feed.next()
        self.first, self._pending = None, False
        return batch

    def last_samples(self) -> tuple[int, ...]:
        samples: tuple[int, ...] = self._feed.last_samples()
        return samples


class CudaGraphs:
    """The forward and the backward pass of a model, captured as CUDA graphs before the model is parallel.

    What a session adds afterwards, such as the exchange of gradients, is not captured, and starts when the whole
    backward pass has ended. In evaluation mode the model computes as it did before.

    Args:
        model: The model, on the device.
        inputs: The inputs of one forward pass; all others must have their shapes.
        autocast: Makes the context of the forward pass, whose cache of weights must be off.
    """

    def __init__(self, model: Any, inputs: Any, autocast: Callable[[], Any]) -> None:
        import torch

        self._model, self._forward = model, model.forward
        buffers = [buffer.detach().clone() for buffer in model.buffers()]
        with autocast():
            torch.cuda.make_graphed_callables(
                model, (inputs,), num_warmup_iters=GRAPH_WARMUP_PASSES, allow_unused_input=True
            )
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Inside, the model launches its operations one by one."""
        graphed, self._model.forward = self._model.forward, self._forward
        try:
            yield
        finally:
            self._model.forward = graphed
