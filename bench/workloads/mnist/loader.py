"""MNIST's images by torch's DataLoader, one by one, as a training script reads them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

from bench.core.case import Case
from bench.host.processes import die_with_parent
from bench.plugins.backend import Session
from bench.workloads.mnist import data
from bench.workloads.training import epoch_order, shard_of


class Images:
    """A Dataset: each image as float32 of shape ``(784,)``, normalized, with its label."""

    def __init__(self, split: data.Split) -> None:
        import torch

        self.images, self.labels = torch.from_numpy(split.images), split.labels
        self.offset, self.scale = torch.tensor(-data.MEAN / data.STD), 1 / 255 / data.STD

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        import torch

        return torch.add(self.offset, self.images[number].float(), alpha=self.scale), int(self.labels[number])


class LoaderFeed:
    """The batches of one rank, in the order of :class:`bench.workloads.mnist.shard.ShardFeed`.

    Args:
        split: The training images.
        case: The case to measure.
        session: The group of ranks.
        workers: Processes that read ahead; 0: the rank reads.
    """

    def __init__(self, split: data.Split, case: Case, session: Session, workers: int) -> None:
        import torch
        from torch.utils.data import DataLoader

        self.case, self.session = case, session
        self.steps_an_epoch = len(split.images) // case.global_batch
        self._drawn: deque[list[int]] = deque()
        self._samples: list[int] = []
        self._loader = iter(
            DataLoader(
                Images(split),
                batch_sampler=self._numbers(len(split.images)),
                num_workers=workers,
                worker_init_fn=_end_with_rank,
                multiprocessing_context="fork" if workers else None,
                pin_memory=session.device != "cpu",
                # Else its seed is drawn from the numbers of the model.
                generator=torch.Generator().manual_seed(case.seed),
            )
        )

    def _numbers(self, images: int) -> Iterator[list[int]]:
        """The images of each batch of this rank, without end."""
        for epoch in itertools.count():
            order = epoch_order(images, self.case.seed, epoch)
            shard = shard_of(order, self.session.rank, self.session.world, self.case.global_batch)
            for numbers in shard.split(self.case.global_batch // self.session.world):
                # Batches come in this order, though worker processes read ahead.
                self._drawn.append(numbers.tolist())
                yield self._drawn[-1]

    def next(self) -> tuple[Any, Any]:
        inputs, targets = next(self._loader)
        self._samples = self._drawn.popleft()
        device = self.session.device
        return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)

    def last_samples(self) -> tuple[int, ...]:
        return tuple(self._samples)


def _end_with_rank(worker: int) -> None:
    die_with_parent()
