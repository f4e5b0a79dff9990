"""The work of one training step on a rank: one side of its roofline. The other is in :mod:`bench.rank.peak`.

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

from contextlib import nullcontext
from math import prod
from typing import Any

from bench.core.step_measures import StepWork
from bench.plugins.backend import Session
from bench.plugins.workload import Work

COLLECTIVE_NAMESPACES = ("c10d", "_c10d_functional", "fsdp")
"""Of torch's operations that communicate, or copy to and from the buffers of those."""


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
