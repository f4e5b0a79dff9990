"""The batches of one rank from a user's data: from tensors, from a Dataset, or from an iterable of batches.

Of each global batch, rank r of N takes every N-th sample from the r-th on, and a pass over the data ends with its last
whole global batch, so that step k holds the same samples at every number of ranks.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.host.processes import die_with_parent
from bench.plugins.workload import DataProblem
from bench.rank.tensors import digest_tensors
from bench.workloads.own_model.batches import check_batch, check_count, leaves_of, tree_like
from bench.workloads.own_model.functions import shown
from bench.workloads.own_model.streams import global_batches, own_random_numbers, shares_of
from bench.workloads.training import copy_ahead, epoch_order, shard_of

GATHERED_BYTES = 64 * 2**20
"""Of a GPU's memory, for the batches that are gathered at once."""

Collate = Callable[[list[Any]], Any]


class Share(NamedTuple):
    """Which samples a rank takes, and how."""

    rank: int
    world: int
    device: str
    global_batch: int
    seed: int
    shuffle: bool = True
    """Whether each pass over tensors or a Dataset has another order."""
    workers: int = 0
    """Processes that read the samples of a Dataset; 0: the rank does."""
    collate: Collate | None = None
    """Makes a batch of a list of samples; ``None``: torch's ``default_collate``."""

    @property
    def batch(self) -> int:
        """Samples of this rank in a step."""
        return self.global_batch // self.world

    def epochs(self, samples: int) -> Iterator[Any]:
        """The sample numbers of this rank in each pass, int64 tensors of whole batches, without end."""
        import torch

        for epoch in itertools.count():
            order = epoch_order(samples, self.seed, epoch) if self.shuffle else torch.arange(samples)
            yield shard_of(order, self.rank, self.world, self.global_batch)


class DataFeed:
    """Batches on the rank's device. Its first batch can be looked at before it is taken.

    Args:
        batches: Sample numbers (a range, or an int64 tensor) and batches, without end.
        device: Where the batches are to be; ``None``: they are there.
        digest: Of some of the data, the same on all ranks.
    """

    def __init__(self, batches: Iterator[tuple[Any, Any]], device: str | None, digest: str) -> None:
        self._batches, self._device, self.digest = batches, None if device == "cpu" else device, digest
        self._numbers: Any = range(0)
        self._first: Any = None

    def peek(self) -> Any:
        """The batch that :meth:`next` returns next."""
        if self._first is None:
            self._first = self.next()
        return self._first

    def next(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        self._numbers, batch = next(self._batches)
        return batch if self._device is None else to_device(batch, self._device)

    def last_samples(self) -> tuple[int, ...]:
        return tuple(self._numbers if isinstance(self._numbers, range) else self._numbers.tolist())


def to_device(batch: Any, device: str) -> Any:
    """The tensors of a batch on a device. Those in pinned memory are copied while the host goes on."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.to(device, non_blocking=True), batch)


def make_feed(make: Callable[[], Any], share: Share) -> DataFeed:
    """The feed of a rank.

    Args:
        make: Returns the data. It is called once; for an iterator, once for each pass.
        share: Which samples the rank takes.

    Raises:
        DataProblem: It is no data, or less than a global batch.
    """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    data = make()
    leaves = leaves_of(data) if isinstance(data, tuple | dict) else [data]
    if leaves and all(isinstance(leaf, torch.Tensor | np.ndarray) for leaf in leaves):
        return _feed_of_tensors(data, share)
    is_sequence = isinstance(data, tuple | dict | str | bytes)
    if isinstance(data, IterableDataset):
        data = DataLoader(data, share.global_batch, collate_fn=share.collate)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not is_sequence:
        return _feed_of_samples(data, share)
    if not hasattr(data, "__iter__") or is_sequence:
        raise DataProblem(
            f"data is {shown(data)}; it is a Dataset, an iterable of batches, a tensor, a tuple or dictionary of "
            "tensors, or a function that returns one of these"
        )
    passes = itertools.chain([data], iter(make, None)) if hasattr(data, "__next__") else itertools.repeat(data)
    stream = own_random_numbers(global_batches(passes, share.global_batch), share.seed)
    first = next(stream)
    shares = shares_of(itertools.chain([first], stream), share.rank, share.world, share.global_batch)
    return DataFeed(shares, share.device, digest_tensors(leaves_of(first)))


def _feed_of_tensors(data: Any, share: Share) -> DataFeed:
    """Batches of tensors that are on the device from the start."""
    import torch

    tensors = [torch.as_tensor(leaf).to(share.device) for leaf in leaves_of(data)]
    check_batch(tensors)
    check_count(len(tensors[0]), share.global_batch)
    batch_bytes = share.batch * sum(tensor[0].nbytes for tensor in tensors)
    together = 1 if share.device == "cpu" else max(1, GATHERED_BYTES // max(1, batch_bytes))
    batches = (
        (numbers, tree_like(data, iter(leaves))) for numbers, leaves in gathered_batches(tensors, share, together)
    )
    return DataFeed(batches, None, digest_tensors(tensor[: share.global_batch] for tensor in tensors))


def gathered_batches(tensors: list[Any], share: Share, together: int) -> Iterator[tuple[Any, list[Any]]]:
    """The sample numbers and the rows of each batch of a rank, without end.

    Args:
        tensors: They have the same number of rows, on the device of the rank.
        share: Which rows the rank takes.
        together: The rows of so many batches are gathered at once. Taking one of them launches nothing then, of which
            a GPU's short steps would consist to a good part.
    """
    import torch

    for epoch in share.epochs(len(tensors[0])):
        rows = torch.empty(epoch.shape, dtype=epoch.dtype, device=share.device)
        copy_ahead(epoch, rows)
        for numbers, part in zip(epoch.split(together * share.batch), rows.split(together * share.batch), strict=True):
            gathered = [tensor.index_select(0, part).split(share.batch) for tensor in tensors]
            for own_numbers, *leaves in zip(numbers.split(share.batch), *gathered, strict=True):
                yield own_numbers, leaves


def _feed_of_samples(data: Any, share: Share) -> DataFeed:
    """Batches of a map-style Dataset, as torch's DataLoader makes them."""
    collate = share.collate or _collate
    check_count(len(data), share.global_batch)
    first, again = (collate([data[0]]) for _ in range(2))
    check_batch(first, 1)
    digest = digest_tensors(leaves_of(first))
    if digest != digest_tensors(leaves_of(again)):
        raise DataProblem(
            "sample 0 of data is another one when it is read again, so that no two ranks have the same data: derive "
            "its random numbers from the number of the sample"
        )
    return DataFeed(_batches_of_samples(data, share, collate), share.device, digest)


def _batches_of_samples(data: Any, share: Share, collate: Collate) -> Iterator[tuple[Any, Any]]:
    import torch
    from torch.utils.data import DataLoader

    drawn: deque[Any] = deque()

    def numbers_of_batches() -> Iterator[list[int]]:
        for epoch in share.epochs(len(data)):
            for numbers in epoch.split(share.batch):
                # Batches come in this order, though worker processes read ahead.
                drawn.append(numbers)
                yield numbers.tolist()

    loader = DataLoader(
        data,
        batch_sampler=numbers_of_batches(),
        collate_fn=collate,
        num_workers=share.workers,
        worker_init_fn=_end_with_rank,
        # The functions of a plugin can't be found by name in a new interpreter.
        multiprocessing_context="fork" if share.workers else None,
        pin_memory=share.device != "cpu",
        # Else its seed is drawn from the numbers of the model.
        generator=torch.Generator().manual_seed(share.seed),
    )
    for batch in loader:
        check_batch(batch, share.batch)
        yield drawn.popleft(), batch


def _end_with_rank(worker: int) -> None:
    die_with_parent()


def _collate(samples: list[Any]) -> Any:
    from torch.utils.data import default_collate

    try:
        return default_collate(samples)
    except (TypeError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())
        raise DataProblem(
            f"{len(samples)} samples of data can't be made a batch ({reason}); the first one is {shown(samples[0])}: "
            "give tensors, arrays or numbers of equal shapes, or collate=…"
        ) from problem
