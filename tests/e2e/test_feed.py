"""The order of samples against torch's own sampler, and what a feed hands out against the images on disk."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data.distributed import DistributedSampler

from bench.core.case import Case
from bench.plugins.backend import Session
from bench.workloads.mnist import data
from bench.workloads.mnist.loader import LoaderFeed
from bench.workloads.mnist.workload import ShardFeed
from bench.workloads.training import epoch_order, shard_of


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("epoch", [0, 3])
def test_shards_are_distributed_sampler_s(world, epoch):
    samples, seed = 1024, 5
    for rank in range(world):
        sampler = DistributedSampler(range(samples), world, rank, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        assert shard_of(epoch_order(samples, seed, epoch), rank, world, 64).tolist() == list(sampler)


def test_a_step_takes_the_same_samples_at_every_world_size():
    order = epoch_order(1000, 0, 0)
    for world in (1, 2, 4, 8):
        each = 64 // world
        for step in (0, 7, 14):
            taken = torch.stack(
                [shard_of(order, rank, world, 64)[step * each : (step + 1) * each] for rank in range(world)]
            )
            assert taken.T.flatten().tolist() == order[step * 64 : (step + 1) * 64].tolist()


def test_a_feed_hands_out_the_images_it_names():
    split = data.load(data.prepare(None, "digits")).train
    case = Case(workload="mnist", backend="ddp", transport="gloo", ranks=2, batch=64)
    feed = ShardFeed(split, case, Session(rank=1, world=2))
    for _ in range(2 * feed.steps_an_epoch + 3):
        inputs, targets = feed.next()
    chosen = list(feed.last_samples())
    expected = (torch.from_numpy(split.images[chosen]).double() / 255 - data.MEAN) / data.STD
    torch.testing.assert_close(inputs.double(), expected, rtol=0, atol=1e-6)
    assert targets.tolist() == split.labels[chosen].tolist()
    assert feed.epoch == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_gives_the_same_batches(workers):
    split = data.load(data.prepare(None, "digits")).train
    case = Case(workload="mnist", backend="ddp", transport="gloo", ranks=2, batch=20_000)
    session = Session(rank=1, world=2)
    views, loaded = ShardFeed(split, case, session), LoaderFeed(split, case, session, workers)
    assert loaded.steps_an_epoch == views.steps_an_epoch == 3
    for _ in range(4):
        (inputs, targets), (expected, labels) = loaded.next(), views.next()
        assert loaded.last_samples() == views.last_samples()
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, labels)
        assert inputs.dtype == expected.dtype
        assert targets.dtype == labels.dtype


def test_the_stand_in_is_the_size_of_mnist_and_repeats():
    found = data.load(data.prepare(None, "digits"))
    assert found.train.images.shape == (60_000, 784)
    assert found.test.images.shape == (10_000, 784)
    assert set(found.train.labels.tolist()) == set(range(10))
    assert found.source.stands_for == "MNIST"
    assert "stand-in for MNIST" in found.source.name
