"""The units that fully_shard shards, and mixed precision as a single process computes it. No backend.

Under a ``MixedPrecisionPolicy`` each unit casts its inputs and parameters, and the gradients of these parameters are
rounded too. That is no error of the exchange: the reference of the same-work check casts in the same places, so that
what it tolerates is the rounding of the reduction alone.
"""

from __future__ import annotations

from typing import Any

from bench.plugins.backend import Session
from bench.rank.blocks import blocks_of

DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class ReferenceSession(Session):
    """A single process whose model computes as the units of a sharded one do.

    Args:
        device: ``"cpu"`` or ``"cuda:<n>"``.
        dtype: The name of the type of parameters and inputs in the forward pass, such as ``"bfloat16"``.
        by_blocks: Whether each block is a unit, beside the model.
    """

    def __init__(self, device: str, dtype: str, *, by_blocks: bool) -> None:
        super().__init__(device=device)
        self.dtype, self.by_blocks = dtype, by_blocks

    def parallelize(self, model: Any) -> Any:
        import torch
        from torch import nn
        from torch.func import functional_call
        from torch.utils._pytree import tree_map

        dtype = getattr(torch, self.dtype)

        def cast(tree: Any, to: Any) -> Any:
            return tree_map(
                lambda leaf: leaf.to(to) if torch.is_tensor(leaf) and leaf.is_floating_point() else leaf, tree
            )

        def cast_inputs(_: Any, inputs: Any, named: Any) -> Any:
            return cast(inputs, dtype), cast(named, dtype)

        for unit in (*(blocks_of(model) if self.by_blocks else ()), model):
            unit.register_forward_pre_hook(cast_inputs, with_kwargs=True)

        class Rounded(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = model

            def forward(self, *inputs: Any, **named: Any) -> Any:
                parameters = {name: parameter.to(dtype) for name, parameter in self.module.named_parameters()}
                return cast(functional_call(self.module, parameters, inputs, named), torch.float32)

        return Rounded()
