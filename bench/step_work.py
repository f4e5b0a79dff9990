"""What one training step of this rank does: floating-point operations, and bytes read and written.

FLOPs are those of matrix products, convolutions and attention, two for each multiply-add, as
``torch.utils.flop_counter`` counts them. Attention is the exception: its backward pass counts twice its forward pass,
whether or not a kernel computes the scores again, so that the count is the model's and not the kernel's (Chowdhery et
al. 2022, PaLM, arXiv:2204.02311, appendix B).

Bytes are those of every tensor that an operation reads or writes, as if nothing were ever found in a cache: an upper
bound of the traffic to memory. Views and metadata move nothing. What fetching the batch moves is left out: which part
of the data set an index touches can't be told from its tensors.
"""

from __future__ import annotations

from math import prod
from typing import Any

from bench.backends import Session
from bench.roofline import StepWork
from bench.workloads import Work


def count_step_work(work: Work, session: Session) -> StepWork:
    """Take one step without exchange, counted; then the parameters are as they were."""
    from torch.utils.flop_counter import FlopCounterMode

    saved = work.save()
    traffic = count_memory_traffic()
    parts = dict(work.parts())
    parts.pop("data")()
    with session.no_sync(), traffic, FlopCounterMode(display=False, custom_mapping=_attention()) as counter:
        for part in parts.values():
            part()
    work.restore(saved)
    return StepWork(
        flops=counter.get_total_flops(), bytes_moved=traffic.bytes_moved, dtypes=tuple(sorted(traffic.dtypes))
    )


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of shapes (batch, heads, length, size): the scores, and the values weighted by them."""
    batch, heads, length, size = query
    return int(2 * batch * heads * length * key[-2] * (size + value[-1]))


def _attention() -> dict[Any, Any]:
    """Formulas for every fused attention: torch's own table lacks the CPU's and counts the scores twice in others."""
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


def count_memory_traffic() -> Any:
    """A context that adds up the bytes of what runs in it, in ``bytes_moved``, and gathers ``dtypes``."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Traffic(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.bytes_moved = 0
            self.dtypes: set[str] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            read, written = _read_and_written_tensors(func, args, kwargs or {}, result)
            self.bytes_moved += sum(map(_stored_bytes, read)) + sum(map(_stored_bytes, written))
            self.dtypes |= {str(one.dtype).removeprefix("torch.") for one in written if one.is_floating_point()}
            return result

    return Traffic()


def _read_and_written_tensors(func: Any, args: Any, kwargs: Any, result: Any) -> tuple[list[Any], list[Any]]:
    """The tensors that an operation reads and those that it writes; neither for a view or an empty tensor."""
    inputs = _tensors((args, kwargs))
    input_storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    outputs = [tensor for tensor in _tensors(result) if tensor.untyped_storage()._cdata not in input_storages]
    arguments = {**dict(zip((one.name for one in func._schema.arguments), args, strict=False)), **kwargs}
    written = outputs + [
        tensor
        for one in func._schema.arguments
        if one.alias_info is not None and one.alias_info.is_write
        for tensor in _tensors(arguments.get(one.name))
    ]
    if not written or "empty" in func._schema.name:
        return [], []
    return inputs, written


def _tensors(values: Any) -> list[Any]:
    import torch
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _stored_bytes(tensor: Any) -> int:
    """An expanded dimension is one element in memory."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return int(prod(size for size, stride in sizes if stride or not size) * tensor.element_size())
