"""What the graph of a loss tells of its computation."""

from __future__ import annotations

from typing import Any

MAX_NODES = 20_000
BITS = {"torch.float8_e5m2": 2, "torch.float8_e4m3fn": 3, "torch.bfloat16": 8, "torch.float16": 11, "torch.float32": 24}
"""The digits of a floating-point type, in bits."""


def coarsest_type(loss: Any) -> str | None:
    """The floating-point type of the fewest digits that a loss was computed in, such as ``bfloat16``; ``None`` where
    its graph does not tell.

    Args:
        loss: A tensor of a forward pass; the backward pass may have been taken.
    """
    root = getattr(loss, "grad_fn", None)
    if root is None:
        return None
    coarsest, seen, waiting = str(getattr(loss, "dtype", "")), {root}, [root]
    while waiting and len(seen) < MAX_NODES:
        node = waiting.pop()
        for metadata in getattr(node, "_input_metadata", ()):
            kind = str(metadata.dtype)
            if BITS.get(kind, 53) < BITS.get(coarsest, 53):
                coarsest = kind
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return coarsest.removeprefix("torch.")
