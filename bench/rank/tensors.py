"""Functions of tensors and of batches that the verified steps are made of."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

CPU_PIECE = 2**15
"""Elements."""


def digest_tensors(tensors: Iterable[Any]) -> str:
    """The SHA-256 of the bytes of the tensors, of any type, in order."""
    import torch

    sha = hashlib.sha256()
    for tensor in tensors:
        # NumPy has no bfloat16: it gets the bytes.
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()


def norm(tensors: Sequence[Any]) -> float:
    """‖·‖₂ over all elements of the tensors; ``None`` is a tensor of zeros."""
    return math.hypot(*(_size(tensor) for tensor in tensors if tensor is not None))


def is_finite(tensor: Any) -> bool:
    """Whether all elements are finite numbers."""
    # A sum is finite only where they are, and takes a tenth of the time. It may exceed the type where they are.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def same_bits(first: Any, second: Any) -> bool:
    """Whether two tensors of a type and device have the same bits; not known, and false, of types of unusual size."""
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(first.element_size())
    if integers is None or first.dtype != second.dtype or first.device != second.device:
        return False
    return bool(torch.equal(first.view(integers), second.view(integers)))


def add(first: Any, second: Any, factor: float = 1) -> Any:
    """first + factor·second; ``None`` is a tensor of zeros."""
    if first is None or second is None:
        return first if second is None else factor * second
    return first + factor * second.to(first.device)


def distance(actual: Any, expected: Any) -> float:
    """‖actual − expected‖₂ of two tensors; ``None`` is a tensor of zeros. Not finite where an element is not."""
    if actual is None or expected is None:
        return norm([actual, expected])
    return _size(actual.to(expected.device), expected)


def _size(tensor: Any, other: Any = None) -> float:
    """‖tensor − other‖₂ in float64, piece by piece on a CPU: pieces stay in a core's cache, where the whole tensor in
    twice its size would be new memory each time."""
    total = 0.0
    length = CPU_PIECE if tensor.device.type == "cpu" else max(1, tensor.numel())
    others = itertools.repeat(None) if other is None else other.detach().reshape(-1).split(length)
    for piece, subtracted in zip(tensor.detach().reshape(-1).split(length), others, strict=False):
        wide = piece.double()
        if subtracted is not None:
            wide = wide - subtracted.double()
        total += float(wide.dot(wide))
    return math.sqrt(total)


def tree_tensors(batch: Any) -> list[Any]:
    """The tensors of a batch, which may be a tree of them."""
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(batch) if hasattr(leaf, "shape")]


def sample_count(batch: Any) -> int:
    """The length of the first dimension of the tensors of a batch, which may be a tree of them."""
    return len(tree_tensors(batch)[0])


def take_rows(batch: Any, rows: slice) -> Any:
    """Some samples of a batch, contiguous in memory as a rank's own batch is."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf[rows].contiguous() if hasattr(leaf, "shape") else leaf, batch)


def chunk_batch(batch: Any, count: int) -> tuple[Any, ...]:
    """``count`` equal pieces of a batch, which share its memory."""
    from torch.utils._pytree import tree_flatten, tree_unflatten

    leaves, structure = tree_flatten(batch)
    chunks = (leaf.chunk(count) if hasattr(leaf, "chunk") else (leaf,) * count for leaf in leaves)
    return tuple(tree_unflatten(pieces, structure) for pieces in zip(*chunks, strict=True))


def images_channels_last(batch: Any) -> Any:
    """The batch with the channels of its images, tensors of 4 dimensions, as the last dimension in memory."""
    import torch
    from torch.utils._pytree import tree_map

    def laid_out(leaf: Any) -> Any:
        is_image = isinstance(leaf, torch.Tensor) and leaf.dim() == 4
        return leaf.contiguous(memory_format=torch.channels_last) if is_image else leaf

    return tree_map(laid_out, batch)


def cut_batch(batch: Any, count: int) -> Iterator[Any]:
    """``count`` equal pieces of a batch, one after the other."""
    samples = sample_count(batch)
    for number in range(count):
        yield take_rows(batch, slice(number * samples // count, (number + 1) * samples // count))
