"""Batches of an iterable, cut anew into global batches of which each rank takes its share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from bench.rank.tensors import sample_count, take_rows
from bench.workloads.own_model.batches import check_batch, check_count

_GENERATOR = threading.Lock()
"""Of torch's generator, which is that of the process: another of its threads may be a rank."""


def shares_of(batches: Iterable[Any], rank: int, world: int, global_batch: int) -> Iterator[tuple[range, Any]]:
    """The samples of one rank in global batches, and their numbers in the order in which samples come."""
    for step, batch in enumerate(batches):
        numbers = range(step * global_batch + rank, (step + 1) * global_batch, world)
        yield numbers, batch if world == 1 else take_rows(batch, slice(rank, None, world))


def global_batches(passes: Iterable[Iterable[Any]], size: int) -> Iterator[Any]:
    """Batches of ``size`` samples; those that are left at the end of a pass are left out.

    Args:
        passes: The batches of each pass over the data, of any sizes.
        size: The samples of a batch.

    Raises:
        DataProblem: A pass has fewer samples.
    """
    for batches in passes:
        samples, whole = 0, 0
        pieces: list[Any] = []
        for batch in batches:
            check_batch(batch)
            pieces.append(batch)
            samples += sample_count(batch)
            while samples >= size:
                joined, rest = _cut(pieces, size)
                yield joined
                whole, samples = whole + 1, samples - size
                pieces = [rest] if samples else []
        if not whole:
            check_count(samples, size)


def _cut(pieces: list[Any], size: int) -> tuple[Any, Any]:
    """The first ``size`` samples of some batches, and the others."""
    import torch
    from torch.utils._pytree import tree_map

    joined = pieces[0] if len(pieces) == 1 else tree_map(lambda *parts: torch.cat(parts), *pieces)
    if sample_count(joined) == size:
        return joined, None
    return take_rows(joined, slice(0, size)), take_rows(joined, slice(size, None))


def own_random_numbers(batches: Iterator[Any], seed: int) -> Iterator[Any]:
    """The same batches, made with random numbers of torch that nothing else draws from.

    Else they would depend on how many numbers the model of a rank draws, for dropout.
    """
    import torch

    numbers = torch.Generator().manual_seed(seed).get_state()
    while True:
        with _GENERATOR:
            outer = torch.get_rng_state()
            torch.set_rng_state(numbers)
            try:
                batch = next(batches)
            finally:
                numbers = torch.get_rng_state()
                torch.set_rng_state(outer)
        yield batch
