"""What the batches of a user's data have to be, in one line where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.plugins.workload import DataProblem
from bench.workloads.own_model.functions import shown

MAX_TENSORS = 4
"""How many tensors of a batch a message describes."""


def leaves_of(batch: Any) -> list[Any]:
    """What a tree of tuples, lists and dictionaries holds, in order.

    torch's own function takes the time of several small operations, and this is done at each step.
    """
    if isinstance(batch, dict):
        return [leaf for part in batch.values() for leaf in leaves_of(part)]
    if isinstance(batch, tuple | list):
        return [leaf for part in batch for leaf in leaves_of(part)]
    return [batch]


def tree_like(tree: Any, leaves: Iterator[Any]) -> Any:
    """A tree of the same form with other leaves, in the order of :func:`leaves_of`."""
    if isinstance(tree, dict):
        return {name: tree_like(part, leaves) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(tree_like(part, leaves) for part in tree)
    return next(leaves)


def check_count(samples: int, global_batch: int) -> None:
    """Raise :class:`DataProblem` where a pass over the data is shorter than a step."""
    if samples < global_batch:
        raise DataProblem(
            f"data has {samples} samples, and a step of all ranks takes {global_batch}: give more data, or a smaller "
            "--batch"
        )


def check_batch(batch: Any, samples: int | None = None) -> None:
    """Raise :class:`DataProblem` where something in a batch is no tensor, or they are not of equally many samples.

    Args:
        batch: A tree of tensors.
        samples: How many there should be, where that is known.
    """
    import torch

    leaves = leaves_of(batch)
    foreign = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
    if foreign or not leaves:
        raise DataProblem(
            f"a batch of data holds {shown(foreign[0] if foreign else batch)}; it is made of tensors: leave the rest "
            "out, or make the batch by collate=…"
        )
    counts = {tuple(leaf.shape[:1]) for leaf in leaves} | ({(samples,)} if samples is not None else set())
    if len(counts) > 1 or counts == {()}:
        expected = "" if samples is None else f", {samples} here"
        raise DataProblem(
            f"a batch of data is {describe_batch(batch)}; the first dimension is the samples, equally many{expected}"
        )


def describe_batch(batch: Any) -> str:
    """Types and shapes of the tensors of a batch: ``float32 (2, 20), int64 (2,)``."""
    leaves = leaves_of(batch)
    shapes = [f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in leaves[:MAX_TENSORS]]
    return ", ".join([*shapes, *(["…"] if len(leaves) > MAX_TENSORS else [])])
