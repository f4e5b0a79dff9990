"""The blocks of a model: what is sharded, or recomputed, one by one."""

from __future__ import annotations

from typing import Any


def listed_blocks(model: Any) -> list[Any]:
    """The members of every ``ModuleList`` of a model, such as the layers of a transformer."""
    from torch import nn

    return [member for module in model.modules() if isinstance(module, nn.ModuleList) for member in module]


def blocks_of(model: Any) -> list[Any]:
    """The modules to shard one by one, inner ones first: members of every ``ModuleList``, and children of the model."""
    return _with_parameters_and_forward([*listed_blocks(model), *model.children()])


def recomputed_blocks(model: Any) -> list[Any]:
    """The modules whose activations are recomputed: members of every outermost ``ModuleList``; in a model without one,
    the model's children."""
    listed = _with_parameters_and_forward(listed_blocks(model))
    nested = {id(inner) for block in listed for inner in block.modules() if inner is not block}
    return [block for block in listed if id(block) not in nested] or _with_parameters_and_forward(model.children())


def innermost(blocks: list[Any]) -> list[Any]:
    """Those of the blocks that contain no other one."""
    outer = {id(block) for block in blocks for inner in block.modules() if inner is not block and inner in blocks}
    return [block for block in blocks if id(block) not in outer]


def _with_parameters_and_forward(modules: Any) -> list[Any]:
    """Each once. A container without a forward pass of its own can't be called."""
    from torch import nn

    return [
        module
        for module in dict.fromkeys(modules)
        if type(module).forward is not nn.Module.forward and any(True for _ in module.parameters())
    ]
