"""How the operations of a step are executed, as its options say.

The modules are changed in place, before the model is parallel: its parameters keep their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from bench.core.records import Reading
from bench.plugins.backend import Session
from bench.rank.blocks import recomputed_blocks
from bench.workloads.step.options import StepOptions


def autocast(options: StepOptions, device: str) -> AbstractContextManager[Any]:
    """The context of a forward pass in the precision of the options."""
    if (name := {"bf16": "bfloat16", "fp16": "float16"}.get(options.computed_in)) is None:
        return nullcontext()
    import torch

    # A captured graph would hold weights that the cache has converted before.
    context: AbstractContextManager[Any] = torch.autocast(
        device.split(":")[0], dtype=getattr(torch, name), cache_enabled=not options.cuda_graph
    )
    return context


class Execution:
    """How the model of a step is executed.

    Args:
        options: The options of the step.
        session: The group of ranks.
    """

    def __init__(self, options: StepOptions, session: Session) -> None:
        self.options, self.session = options, session
        self.recomputation: Recomputation | None = None
        self.compiled: CompiledModules | None = None

    def prepare(self, model: Any) -> Any:
        """The model, changed as the options say, before it is parallel.

        Raises:
            ValueError: It lacks what an option changes.
        """
        import torch

        options = self.options
        if options.precision == "tf32":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if options.channels_last:
            if not any(parameter.dim() == 4 for parameter in model.parameters()):
                raise ValueError("channels_last: the model has no convolution of images (no parameter of 4 dimensions)")
            model = model.to(memory_format=torch.channels_last)
        if options.recompute == "blocks":
            self.recomputation = Recomputation(model)
        if options.compile != "none":
            modules = self.session.compiled_modules(model)
            self.compiled = CompiledModules(modules, options.compile, self.session.device)
        return model

    def one_by_one(self) -> AbstractContextManager[None]:
        """Inside, the model executes its operations as they are written."""
        return self.compiled.switched_off() if self.compiled else nullcontext()

    def without_recomputation(self) -> AbstractContextManager[None] | None:
        """A context in which activations are kept; ``None`` where they always are."""
        return self.recomputation.switched_off() if self.recomputation else None

    def readings(self) -> tuple[Reading, ...]:
        """What this execution has cost until now."""
        return self.compiled.readings() if self.compiled else ()


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


class ReplacedForward:
    """Modules whose forward passes are replaced, in place and before the model is parallel, by other ways to compute
    them."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, Any, Any]] = []

    def replace(self, module: Any, forward: Any) -> None:
        """Let a module compute its forward pass by ``forward``."""
        self.note(module, module.forward, forward)
        module.forward = forward

    def note(self, module: Any, before: Any, after: Any) -> None:
        """Remember a forward pass that has been replaced."""
        self._replaced.append((module, before, after))

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Inside, the modules compute as they are written."""
        for module, before, _ in self._replaced:
            module.forward = before
        try:
            yield
        finally:
            for module, _, after in self._replaced:
                module.forward = after


class CompiledModules(ReplacedForward):
    """Modules compiled by ``torch.compile``, at their first calls.

    Compiled inside ``DistributedDataParallel``, a graph is split where DDP's buckets end, so that their exchange
    overlaps with the backward pass.

    Args:
        modules: The modules, before the model is parallel (:meth:`bench.plugins.backend.Session.compiled_modules`).
        mode: A mode of ``torch.compile``.
        device: The session's device.
    """

    def __init__(self, modules: Sequence[Any], mode: str, device: str) -> None:
        import torch
        import torch._inductor.config as inductor

        super().__init__()
        if device == "cpu":
            # Else each rank starts a pool of compiling processes, which share its core.
            inductor.compile_threads = 1
        for module in modules:
            self.replace(module, torch.compile(_as_own_frame(module.forward), mode=mode))

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


def _as_own_frame(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside one that is not torch's: frames of torch.nn, such as ``nn.Sequential``'s, aren't compiled by
    themselves, nor by ``Module.compile`` (2.13.0), and neither are those that DistributedDataParallel calls."""

    def compiled_forward(*arguments: Any, **named: Any) -> Any:
        return forward(*arguments, **named)

    return compiled_forward


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
