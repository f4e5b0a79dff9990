"""Finds how a program exchanges gradients, and takes the exchange out of the backward pass for some steps.

In those steps gradients are exchanged when all of them are known, in one piece that can be timed. Each step computes
what it does otherwise: the same sums are exchanged, only later. What is left of the step is the rank's own time, which
nothing that is sent meanwhile slows down. So a program's parameters and checkpoints are those of a program that nothing
is observed of, which leaving the exchange out (``no_sync``) would not give.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from bench.rank.clock import synchronize

NO_EXCHANGE = "no DistributedDataParallel and no DistributedOptimizer of Horovod was found in the program"
OWN_HOOK = "the program has a communication hook of its own, which takes the place of the one that times the exchange"
SHARDED = "a sharded model (FSDP) gathers parameters throughout the step, which is not observed"


class Exchange(Protocol):
    """The exchange of one module or optimizer."""

    deferred: bool
    """Whether gradients are exchanged after the backward pass."""
    on_exchange: Callable[[float], None]
    """Called in that case with the time that the exchange took, in seconds, maybe more than once a step."""

    def parameters(self) -> Iterable[Any]:
        """The parameters whose gradients it exchanges."""

    def restore(self) -> None:
        """Exchange gradients as before it was found, as far as that is possible."""


class CannotObserveError(Exception):
    """Why the exchange of a program is not observed, in one line."""


def _ignore(_: float) -> None:
    return


def find_exchanges() -> list[Exchange]:
    """The exchanges of this process's program, which are timed from now on; none of a program without any.

    Raises:
        CannotObserveError: It has some that can't be timed.
    """
    ddp, horovod, sharded = _find_in_memory()
    if sharded:
        raise CannotObserveError(SHARDED)
    if problem := next(filter(None, [*map(ddp_problem, ddp), *map(horovod_problem, horovod)]), None):
        raise CannotObserveError(problem)
    exchanges: list[Exchange] = [HorovodExchange(optimizer) for optimizer in horovod]
    for module in ddp:
        try:
            exchanges.append(DdpExchange(module))
        except RuntimeError as error:
            # One that is built in is known to torch alone.
            raise CannotObserveError(OWN_HOOK) from error
    return exchanges


def _find_in_memory() -> tuple[list[Any], list[Any], bool]:
    """The modules of DDP, the optimizers of Horovod, and whether there is a module of FSDP."""
    parallel = sys.modules.get("torch.nn.parallel.distributed")
    if parallel is None:
        return [], [], False
    import torch

    # A module that the program has dropped is in cycles of references.
    gc.collect()
    ddp, horovod, sharded = [], [], False
    for instance in gc.get_objects():
        kind = type(instance)
        if issubclass(kind, parallel.DistributedDataParallel):
            ddp.append(instance)
        elif issubclass(kind, torch.nn.Module):
            names = {base.__name__ for base in kind.__mro__}
            sharded = sharded or bool(names & {"FSDPModule", "FullyShardedDataParallel"})
        elif issubclass(kind, torch.optim.Optimizer) and hasattr(kind, "skip_synchronize"):
            horovod.append(instance)
    return ddp, horovod, sharded


def root_module(parameters: Iterable[Any]) -> Any | None:
    """The outermost module of this process that holds all of some parameters; ``None`` where there is none."""
    from torch.nn import Module

    wanted = {id(parameter) for parameter in parameters}
    modules = (instance for instance in gc.get_objects() if issubclass(type(instance), Module))
    holding = [module for module in modules if wanted <= {id(parameter) for parameter in module.parameters()}]
    return max(holding, key=lambda module: sum(1 for _ in module.modules()), default=None)


def ddp_problem(module: Any) -> str | None:
    """Why the exchange of a DistributedDataParallel can't be deferred; ``None`` where it can."""
    if module._comm_hooks:
        return OWN_HOOK
    if module.static_graph:
        return "DistributedDataParallel was given static_graph=True, which launches the exchange by itself"
    if module.mixed_precision is not None or module._delay_all_reduce_params:
        return "DistributedDataParallel exchanges gradients by hooks of its own (mixed_precision, delayed parameters)"
    return None


def horovod_problem(optimizer: Any) -> str | None:
    """Why the exchange of a DistributedOptimizer of Horovod can't be deferred; ``None`` where it can."""
    if not hasattr(optimizer, "_allreduce_grad_async") or not hasattr(optimizer, "_handles"):
        return f"a {type(optimizer).__name__} of Horovod does not exchange gradients during the backward pass"
    return "Horovod's DistributedOptimizer has groups of gradients" if optimizer._groups is not None else None


class DdpExchange:
    """The exchange of a DistributedDataParallel, by a communication hook that adds up what it does without one.

    A hook can't be taken back: the module keeps it, with the same sums.

    Args:
        module: The module, without a hook.

    Raises:
        RuntimeError: It has one.
    """

    def __init__(self, module: Any) -> None:
        self.deferred = False
        self.on_exchange: Callable[[float], None] = _ignore
        self.module, self._device = module, str(module.device)
        self._pending: list[tuple[Any, Any]] = []
        # Its annotations would have to be torch's types.
        module.register_comm_hook(None, lambda _, bucket: self._exchange(bucket))

    def parameters(self) -> Iterable[Any]:
        parameters: Iterable[Any] = self.module._module_parameters
        return parameters

    def restore(self) -> None:
        self.deferred = False

    def _exchange(self, bucket: Any) -> Any:
        """The mean of a bucket over the ranks, as a future."""
        import torch

        buffer = bucket.buffer()
        if not self.deferred:
            return self._start(buffer).get_future().then(lambda future: future.value()[0])
        mean: Any = torch.futures.Future()
        self._pending.append((buffer, mean))
        if bucket.is_last():
            self._exchange_pending()
        return mean

    def _start(self, buffer: Any) -> Any:
        import torch.distributed as dist

        group = self.module.process_group
        return dist.all_reduce(buffer.div_(group.size()), group=group, async_op=True)

    def _exchange_pending(self) -> None:
        """All gradients are known: exchange them, and time that and what the reducer does afterwards."""
        from torch.autograd import Variable

        synchronize(self._device)
        began_s = time.perf_counter()
        for work in [self._start(buffer) for buffer, _ in self._pending]:
            work.wait()
        synchronize(self._device)
        for buffer, mean in self._pending:
            mean.set_result(buffer)
        self._pending.clear()
        self.on_exchange(time.perf_counter() - began_s)
        # At the end of the backward pass the reducer copies the means into the gradients: between two callbacks.
        queue = Variable._execution_engine.queue_callback
        copying_s = 0.0

        def before() -> None:
            nonlocal copying_s
            queue(after)
            copying_s = time.perf_counter()

        def after() -> None:
            synchronize(self._device)
            self.on_exchange(time.perf_counter() - copying_s)

        queue(before)


class HorovodExchange:
    """The exchange of a DistributedOptimizer of Horovod: its own ``synchronize`` starts what the backward pass did not.

    Args:
        optimizer: The optimizer.
    """

    def __init__(self, optimizer: Any) -> None:
        self.deferred = False
        self.on_exchange: Callable[[float], None] = _ignore
        self._optimizer = optimizer
        self._start: Callable[[Any], Any] = optimizer._allreduce_grad_async
        self._complete: Callable[[], None] = optimizer.synchronize
        self._completing = False
        self._device = str(next(iter(self.parameters())).device)
        optimizer._allreduce_grad_async, optimizer.synchronize = self._start_or_leave, self._timed_synchronize

    def parameters(self) -> Iterable[Any]:
        return (parameter for group in self._optimizer.param_groups for parameter in group["params"])

    def restore(self) -> None:
        self.deferred = False
        # What hid the methods of its class.
        self._optimizer.__dict__.pop("_allreduce_grad_async", None)
        self._optimizer.__dict__.pop("synchronize", None)

    def _start_or_leave(self, parameter: Any) -> Any:
        return (None, None) if self.deferred and not self._completing else self._start(parameter)

    def _timed_synchronize(self) -> None:
        if not self.deferred:
            self._complete()
            return
        synchronize(self._device)
        began_s, self._completing = time.perf_counter(), True
        try:
            self._complete()
            synchronize(self._device)
        finally:
            self._completing = False
            self.on_exchange(time.perf_counter() - began_s)
