"""The sessions of ranks that Dask placed: gradients averaged through Dask's tasks, or by torch.distributed.

Under both, ``dask.array`` takes the mean of an array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.backends.dask.cluster_ref import DaskContext
from bench.backends.dask.exchange import mailbox, sum_arrays
from bench.backends.ddp import DdpOptions, DdpSession
from bench.core.bounds import MAX_BYTES
from bench.core.collectives import Collective
from bench.core.gradients import GradientBuckets
from bench.core.rank_info import RankInfo
from bench.plugins.backend import MakeOptimizer, Session, Shape2D

if TYPE_CHECKING:
    from bench.backends.dask.streams import Streams

NO_SIZE_LIMIT = MAX_BYTES
"""In bytes: all gradients are one message."""


class DaskTaskSession(Session):
    """A rank whose arrays are exchanged through Dask tasks.

    Args:
        rank: This rank, from 0.
        world: The number of ranks.
        mode: How arrays travel: ``stream``, ``direct`` or ``sharded``.
        dask_context: How this rank reaches its cluster.
        streams: Its connections to the others, for ``stream``.
    """

    def __init__(
        self, rank: int, world: int, mode: str, dask_context: DaskContext, streams: Streams | None = None
    ) -> None:
        super().__init__(rank, world)
        self.mode, self.dask_context, self.streams = mode, dask_context, streams
        self.mailbox = mailbox(dask_context.trial)
        self.optimizer: Any = None

    @property
    def grouping(self) -> GradientBuckets:
        return GradientBuckets(first_bytes=NO_SIZE_LIMIT, most_bytes=NO_SIZE_LIMIT, laid_out=True, overlaps=False)

    def build_optimizer(self, model: Any, make: MakeOptimizer) -> Any:
        parameters = list(model.parameters())
        self.optimizer = AveragingOptimizer(make(parameters), parameters, self)
        return self.optimizer

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        before, self.optimizer.sync_gradients = self.optimizer.sync_gradients, False
        try:
            yield
        finally:
            self.optimizer.sync_gradients = before

    @contextmanager
    def exchanged_gradients(self) -> Iterator[None]:
        self.optimizer.exchange()
        with self.no_sync():
            yield

    def all_reduce_sum(self, tensor: Any) -> Any:
        # A copy, since other ranks may still be fetching it when this one goes on and changes the tensor.
        flat = tensor.detach().flatten().to(exchange_dtype([tensor.dtype]), copy=True)
        return self.sum_over_ranks(flat).view(tensor.shape).to(tensor.dtype, copy=self.streams is not None)

    def prepare_collective(self, operation: Collective, send: Any, receive: Any) -> Callable[[], Any]:
        import numpy as np
        import torch

        if operation != "all_gather":
            return super().prepare_collective(operation, send, receive)
        as_bytes = send.view(torch.uint8).numpy()
        if self.streams is not None:
            exchange = self.streams.exchange
            return lambda: torch.from_numpy(np.concatenate(exchange(as_bytes))).view(send.dtype)
        # A copy each time, as in all_reduce_sum.
        return lambda: torch.from_numpy(np.concatenate(self.mailbox.exchange(as_bytes.copy()))).view(send.dtype)

    def sum_over_ranks(self, flat: Any) -> Any:
        """The sum over the ranks of a flat tensor, which is valid until the next exchange.

        The tensor must not be changed before that, unless there are streams: others may still fetch it.
        """
        import numpy as np
        import torch

        if self.streams is not None:
            return torch.from_numpy(self.streams.sum(flat.numpy()))
        received = self.mailbox.exchange(flat.numpy())
        return torch.from_numpy(np.concatenate(received) if self.mode == "sharded" else sum_arrays(*received))

    def blocks_mean(self, grid_shape: Shape2D, block_shape: Shape2D, make_block: Callable[[int, int], Any]) -> float:
        return dask_array_mean(self, self.dask_context, grid_shape, block_shape, make_block)

    def settings(self) -> dict[str, str]:
        return {"transport": "tasks", "exchange": self.mode, **self.dask_context.settings, **versions()}


@contextmanager
def open_streams(me: RankInfo, dask_context: DaskContext) -> Iterator[Streams]:
    """The connections of the rank in this thread of a worker to all others."""
    import distributed

    from bench.backends.dask.streams import connect_ranks

    streams = connect_ranks(me.rank, me.world, mailbox(dask_context.trial), distributed.get_worker())
    try:
        yield streams
    finally:
        streams.close()


class AveragingOptimizer:
    """An optimizer whose step first replaces the gradients by their mean over the ranks."""

    def __init__(self, optimizer: Any, parameters: Sequence[Any], session: DaskTaskSession) -> None:
        self.optimizer, self.parameters, self.session = optimizer, parameters, session
        self.sync_gradients = True
        self.packed: Any = None

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def state_dict(self) -> Any:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)

    def step(self) -> None:
        self.exchange()
        self.optimizer.step()

    def exchange(self) -> None:
        """Replace the gradients by their mean over the ranks, unless that is switched off."""
        if not self.sync_gradients:
            return
        trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        # By tasks others may still fetch what was packed before.
        self.packed = pack_gradients(trained, self.packed if self.session.streams is not None else None)
        total = self.session.sum_over_ranks(self.packed)
        unpack_gradients(trained, total, self.session.world)


def exchange_dtype(dtypes: Iterable[Any]) -> Any:
    """The type in which tensors of these types are summed: NumPy has no bfloat16, and sums float16 inexactly."""
    import torch

    promoted = functools.reduce(torch.promote_types, dtypes)
    return torch.float32 if promoted in (torch.bfloat16, torch.float16) else promoted


def pack_gradients(parameters: Sequence[Any], out: Any = None) -> Any:
    """All gradients as one flat tensor, then a 1 for each parameter that has one.

    A parameter that this rank's step did not use has zeros: another rank's may have used it.

    Args:
        parameters: Those that are trained.
        out: A former result for the same parameters, whose memory is used again.
    """
    import torch

    dtype = exchange_dtype(parameter.dtype for parameter in parameters)
    gradients = [parameter.grad for parameter in parameters]
    flat = [
        torch.zeros(parameter.numel(), dtype=dtype)
        if gradient is None
        else (gradient.to_dense() if gradient.is_sparse else gradient).detach().reshape(-1).to(dtype)
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    return torch.cat([*flat, torch.tensor([gradient is not None for gradient in gradients], dtype=dtype)], out=out)


def unpack_gradients(parameters: Sequence[Any], total: Any, world: int) -> None:
    """Set the gradients to the mean over ``world`` ranks of what :func:`pack_gradients` returned.

    A parameter that no rank used keeps none, as under DDP; a sparse gradient stays sparse.
    """
    import torch

    sizes = [parameter.numel() for parameter in parameters]
    *means, users = total.div_(world).split([*sizes, len(parameters)])
    for parameter, mean, used in zip(parameters, means, users.tolist(), strict=True):
        if not used:
            continue
        mean = mean.view(parameter.shape)
        if mean.dtype != parameter.dtype or not parameter.is_contiguous():
            # The optimizer expects the parameter's type and memory format.
            mean = torch.empty_like(parameter, requires_grad=False).copy_(mean)
        sparse = parameter.grad is not None and parameter.grad.is_sparse
        parameter.grad = mean.to_sparse(parameter.grad.sparse_dim()) if sparse else mean


def dask_array_mean(
    session: Session,
    dask_context: DaskContext,
    grid_shape: Shape2D,
    block_shape: Shape2D,
    make_block: Callable[[int, int], Any],
) -> float:
    """The mean as ``dask.array`` takes it over the ranks' workers. Rank 0 computes it and sends it to the others."""
    import torch

    mean = 0.0
    if session.rank == 0:
        import dask.array

        def block(block_id: tuple[int, int]) -> Any:
            return make_block(*block_id)

        chunks = ((block_shape[0],) * grid_shape[0], (block_shape[1],) * grid_shape[1])
        array = dask.array.map_blocks(block, chunks=chunks, dtype="float64", meta=_empty())
        mean = float(dask_context.client().compute(array.mean(), sync=True, **dask_context.compute_options))
    reduced = session.all_reduce_sum(torch.tensor([mean], dtype=torch.float64))
    return float(reduced[0])


def _empty() -> Any:
    import numpy as np

    return np.empty((0, 0))


def versions() -> dict[str, str]:
    """The versions of Dask's packages, by name."""
    import dask
    import distributed

    return {"dask": dask.__version__, "distributed": distributed.__version__}


class DaskGlooSession(DdpSession):
    """A rank that Dask placed: gradients are averaged by torch.distributed, and ``dask.array`` takes the mean."""

    unused_option = "dask.find_unused_parameters"

    def __init__(self, rank: int, world: int, device: str, options: DdpOptions, dask_context: DaskContext) -> None:
        super().__init__(rank, world, device, options, "gloo")
        self.dask_context = dask_context

    def blocks_mean(self, grid_shape: Shape2D, block_shape: Shape2D, make_block: Callable[[int, int], Any]) -> float:
        return dask_array_mean(self, self.dask_context, grid_shape, block_shape, make_block)

    def settings(self) -> dict[str, str]:
        return {**super().settings(), **self.dask_context.settings}
