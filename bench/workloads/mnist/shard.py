"""MNIST's images in memory, gathered in the order of an epoch: on the host, or on the device that computes."""

from __future__ import annotations

from typing import Any

from bench.core.case import Case
from bench.plugins.backend import Session
from bench.workloads.mnist import data
from bench.workloads.training import copy_ahead, epoch_order, shard_of

SCALE, OFFSET = 1 / 255 / data.STD, -data.MEAN / data.STD
"""A pixel is normalized to ``OFFSET + SCALE * pixel``, rounded once."""


class ShardFeed:
    """Batches of this rank's shard on the CPU, gathered from the images in memory once an epoch.

    Images stay bytes until they are used: they are a quarter of the memory to read, and ranks share the originals
    through the page cache. The gather is part of the epoch's first step.
    """

    def __init__(self, split: data.Split, case: Case, session: Session) -> None:
        import torch

        self.images, self.labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
        self.session, self.seed, self.global_batch = session, case.seed, case.global_batch
        self.batch = case.global_batch // session.world
        self.steps_an_epoch = len(self.images) // case.global_batch
        pixels = split.images.shape[1]
        self.gathered = torch.empty((self.steps_an_epoch * self.batch, pixels), dtype=torch.uint8)
        self.uint8_batches = self.gathered.split(self.batch)
        self.inputs = torch.empty((self.batch, pixels))
        self.offset = torch.tensor(OFFSET)
        self.epoch, self.position = -1, self.steps_an_epoch
        self.shard: Any = None
        self.targets: Any = None

    def next(self) -> tuple[Any, Any]:
        import torch

        if self.position == self.steps_an_epoch:
            self._begin_epoch()
        targets = self.targets[self.position]
        torch.add(self.offset, self.inputs.copy_(self.uint8_batches[self.position]), alpha=SCALE, out=self.inputs)
        self.position += 1
        return self.inputs, targets

    def _begin_epoch(self) -> None:
        import numpy as np

        self.epoch, self.position = self.epoch + 1, 0
        order = epoch_order(len(self.images), self.seed, self.epoch)
        self.shard = shard_of(order, self.session.rank, self.session.world, self.global_batch)
        # By NumPy, which copies rows much faster than torch. mode="clip" lets it write into the target directly; the
        # rows are a permutation, so nothing is clipped.
        np.take(self.images.numpy(), self.shard.numpy(), axis=0, out=self.gathered.numpy(), mode="clip")
        self.targets = self.labels[self.shard].split(self.batch)

    def last_samples(self) -> tuple[int, ...]:
        rows = slice((self.position - 1) * self.batch, self.position * self.batch)
        return tuple(self.shard[rows].tolist())


class DeviceFeed:
    """Batches of this rank's shard on a device, the same as :class:`ShardFeed`'s.

    The images of an epoch are gathered and normalized there at once: batches are views, and a step launches nothing for
    them. Nothing waits for the device, nor is memory allocated after the first epoch.
    """

    def __init__(self, split: data.Split, case: Case, session: Session) -> None:
        import torch

        device = session.device
        self.images, self.labels = torch.tensor(split.images, device=device), torch.tensor(split.labels, device=device)
        self.session, self.seed, self.global_batch = session, case.seed, case.global_batch
        self.batch = case.global_batch // session.world
        self.steps_an_epoch = len(self.images) // case.global_batch
        samples, pixels = self.steps_an_epoch * self.batch, split.images.shape[1]
        self.rows = torch.empty(samples, dtype=torch.int64, device=device)
        self.gathered = torch.empty((samples, pixels), dtype=torch.uint8, device=device)
        self.inputs = torch.empty((samples, pixels), device=device)
        self.targets = torch.empty(samples, dtype=self.labels.dtype, device=device)
        self.offset = torch.tensor(OFFSET, device=device)
        self.batches = list(zip(self.inputs.split(self.batch), self.targets.split(self.batch), strict=True))
        self.epoch, self.position = -1, self.steps_an_epoch
        self.shard: Any = None

    def next(self) -> tuple[Any, Any]:
        if self.position == self.steps_an_epoch:
            self._begin_epoch()
        batch = self.batches[self.position]
        self.position += 1
        return batch

    def _begin_epoch(self) -> None:
        import torch

        self.epoch, self.position = self.epoch + 1, 0
        order = epoch_order(len(self.images), self.seed, self.epoch)
        self.shard = shard_of(order, self.session.rank, self.session.world, self.global_batch)
        copy_ahead(self.shard, self.rows)
        torch.index_select(self.images, 0, self.rows, out=self.gathered)
        torch.index_select(self.labels, 0, self.rows, out=self.targets)
        torch.add(self.offset, self.inputs.copy_(self.gathered), alpha=SCALE, out=self.inputs)

    def last_samples(self) -> tuple[int, ...]:
        rows = slice((self.position - 1) * self.batch, self.position * self.batch)
        return tuple(self.shard[rows].tolist())
