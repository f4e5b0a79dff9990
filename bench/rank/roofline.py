"""The two sides of a roofline on one rank: the peak rates of its device, and the work of one training step.

The peak rates are those of a matrix product and of a copy, measured on all ranks at the same time, since the ranks of a
node share its memory and its clocks. Each is the best of a few, as in STREAM (McCalpin 1995,
https://www.cs.virginia.edu/stream/). Products and copies alternate, so that a busy moment of the machine does not
affect all of one kind. The product is of the type in which the step multiplies: a bfloat16 step is held against what
the device reaches in bfloat16. TensorFloat-32 is off in ranks that do not ask for it, so that a product of float32 is
one on a GPU too.

The work of a step is its floating-point operations, and the bytes that it reads and writes. FLOPs are those of matrix
products, convolutions and attention, two for each multiply-add, as ``torch.utils.flop_counter`` counts them. The
exception is attention: its backward pass counts twice its forward pass, whether or not a kernel computes the scores
again, so that the count is that of the model and not of the kernel (Chowdhery et al. 2022, PaLM, arXiv:2204.02311,
appendix B). Where activations are recomputed in the backward pass, a step is counted twice: as it is executed, and
without that.

Bytes are those of all tensors that an operation reads or writes, as if caches did not exist: an upper bound of the
memory traffic. Views and metadata move nothing. Fetching the batch is left out: its tensors do not show which part of
the data set an index touches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from math import prod
from typing import Any

from bench.core.records import DevicePeak, StepWork
from bench.plugins.backend import Session
from bench.plugins.workload import Work
from bench.rank.clock import time_steps

ROUNDS = 8
PRODUCTS_PER_ROUND = 2
MIN_PRODUCT_S = 2e-3
SIDE_RANGE = (512, 16_384)
MIN_SLOW_SIDE = 128
"""A processor without instructions for a type multiplies in it up to a hundred times slower than in float32."""
COPY_MIB = {"cpu": 64, "cuda": 512}
COLLECTIVE_NAMESPACES = ("c10d", "_c10d_functional", "fsdp")
"""Of torch's operations that communicate, or copy to and from the buffers of those."""
NO_MEMORY_FOR_PEAK = "no room on the device for the operands that measure its peak"


def measure_peak(session: Session, dtype: str = "float32") -> DevicePeak | None:
    """Measure the peak rates of this rank's device, which takes about 0.3 s on a CPU.

    Args:
        session: The group of ranks.
        dtype: The type to multiply in: a name of torch's, or ``tf32``.

    Returns:
        ``None`` where the device of a rank has no memory for the operands.
    """
    mebibytes = COPY_MIB[session.device.split(":")[0]]
    copy, min_side = _prepare_copy(session.device, mebibytes * 2**20, dtype)
    side = session.largest(min_side)
    if copy is None or side == math.inf:
        return None
    product = _product(int(side), session.device, dtype)
    products: list[float] = []
    copies: list[float] = []
    for _ in range(ROUNDS):
        session.barrier()
        # The first product of a round finds the caches as the copy left them.
        products += time_steps(product, PRODUCTS_PER_ROUND, session.device)
        session.barrier()
        copies += time_steps(copy, 1, session.device)
    return DevicePeak(
        flop_s=2 * side**3 / min(products),
        bytes_s=2 * mebibytes * 2**20 / min(copies),
        dtype=dtype,
        how=f"{dtype} product of {side:.0f}×{side:.0f} matrices, copy of {mebibytes} MiB, best of {len(products)} and "
        f"{len(copies)}, all ranks at once",
    )


def _prepare_copy(device: str, size: int, dtype: str) -> tuple[Callable[[], Any] | None, float]:
    """A copy of ``size`` bytes, and the side of matrices whose product can be timed; infinite without memory for
    them."""
    import torch

    try:
        source = torch.ones(size // 4, device=device)
        target = torch.ones_like(source)
        return lambda: target.copy_(source), _smallest_timeable_side(device, dtype)
    # On CUDA it is torch.OutOfMemoryError, which is one of these; on a CPU it is a plain one.
    except RuntimeError:
        return None, math.inf


def _smallest_timeable_side(device: str, dtype: str) -> float:
    """The side of the smallest square matrices, by doubling, whose product takes long enough to be timed."""
    side, largest = SIDE_RANGE
    side = side if dtype == "float32" else MIN_SLOW_SIDE
    while side < largest and min(time_steps(_product(side, device, dtype), 2, device)) < MIN_PRODUCT_S:
        side *= 2
    return float(side)


def _product(side: int, device: str, dtype: str) -> Callable[[], Any]:
    import torch

    # That float32 is multiplied as TensorFloat-32 is a setting of the process.
    stored = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    left, right, output = (torch.ones(side, side, device=device, dtype=stored) for _ in range(3))
    return lambda: torch.mm(left, right, out=output)


def count_step_work(work: Work, session: Session) -> StepWork:
    """Count one step without its communication; the parameters are restored afterwards."""
    with work.one_by_one():
        counted = _count_step(work, session)
        without = work.without_recomputation()
        if without is None:
            return counted
        with without:
            simple = _count_step(work, session)
    return counted.model_copy(update={"flops": simple.flops, "executed_flops": counted.flops})


def _count_step(work: Work, session: Session) -> StepWork:
    from torch.utils.flop_counter import FlopCounterMode

    saved = work.save()
    counter = FlopCounterMode(display=False, custom_mapping=_attention())
    traffic = count_memory_traffic(frozenset(counter.flop_registry))
    parts = work.parts()
    for name, part in parts:
        if name == "data":
            part()
    # What can't be left out is taken and not counted.
    without_exchange = session.no_sync() if session.no_sync_reason is None else nullcontext()
    with without_exchange, traffic, counter:
        for name, part in parts:
            if name != "data":
                part()
    work.restore(saved)
    return StepWork(
        flops=counter.get_total_flops(),
        bytes_moved=traffic.bytes_moved,
        dtypes=tuple(sorted(traffic.dtypes)),
        product_dtypes=tuple(
            sorted(work.arithmetic or name if name == "float32" else name for name in traffic.product_dtypes)
        ),
    )


def peak_dtype(counted: StepWork | None) -> str:
    """The type of the peak that a step is held against: that of its products, of several the first."""
    return counted.product_dtypes[0] if counted and counted.product_dtypes else "float32"


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """The FLOPs of attention for shapes (batch, heads, length, size): the scores, and the values weighted by them."""
    batch, heads, length, size = query
    return int(2 * batch * heads * length * key[-2] * (size + value[-1]))


def _attention() -> dict[Any, Any]:
    """Formulas for all fused attentions: torch's own table lacks that of the CPU, and counts the scores twice in
    others."""
    import torch

    def backward(_gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return 2 * attention_flops(query, key, value)

    formulas = {}
    for kind in ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention"):
        for name, formula in ((kind, attention_flops), (f"{kind}_backward", backward)):
            operation = getattr(torch.ops.aten, f"_scaled_dot_product_{name}", None)
            if operation is not None:
                formulas[operation] = formula
    return formulas


def count_memory_traffic(products: frozenset[Any] = frozenset()) -> Any:
    """A context that sums the bytes of the operations in it in ``bytes_moved``, and collects their ``dtypes``.

    Args:
        products: Operations whose types are collected in ``product_dtypes`` too.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Traffic(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.bytes_moved = 0
            self.dtypes: set[str] = set()
            self.product_dtypes: set[str] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func.namespace in COLLECTIVE_NAMESPACES:
                return result
            read, written = _read_and_written_tensors(func, args, kwargs or {}, result)
            self.bytes_moved += sum(map(_stored_bytes, read)) + sum(map(_stored_bytes, written))
            dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in written if tensor.is_floating_point()}
            self.dtypes |= dtypes
            if func.overloadpacket in products:
                # Attention has sums in float32 beside its result.
                self.product_dtypes |= {str(product.dtype).removeprefix("torch.") for product in _tensors(result)[:1]}
            return result

    return Traffic()


def _read_and_written_tensors(func: Any, args: Any, kwargs: Any, result: Any) -> tuple[list[Any], list[Any]]:
    """The tensors that an operation reads and those that it writes; neither for a view or an empty tensor."""
    inputs = _tensors((args, kwargs))
    input_storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    outputs = [tensor for tensor in _tensors(result) if tensor.untyped_storage()._cdata not in input_storages]
    arguments = {**dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)), **kwargs}
    written = outputs + [
        tensor
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(arguments.get(argument.name))
    ]
    if not written or "empty" in func._schema.name:
        return [], []
    return inputs, written


def _tensors(values: Any) -> list[Any]:
    import torch
    from torch.utils._pytree import tree_leaves

    # Of a tensor that is sharded over the ranks, this rank's part is what it reads and writes.
    leaves = [leaf.to_local() if hasattr(leaf, "to_local") else leaf for leaf in tree_leaves(values)]
    return [stored for leaf in leaves if isinstance(leaf, torch.Tensor) for stored in _stored_tensors(leaf)]


def _stored_tensors(tensor: Any) -> tuple[Any, ...]:
    """What a tensor is in memory: of a sparse one, such as the gradient of an embedding, its indices and values."""
    import torch

    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def _stored_bytes(tensor: Any) -> int:
    """The bytes of a tensor in memory, where an expanded dimension has one element."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return int(prod(size for size, stride in sizes if stride or not size) * tensor.element_size())
