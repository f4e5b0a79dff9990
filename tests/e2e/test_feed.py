"""The order of samples against torch's own sampler, and what a feed hands out against the images on disk."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data.distributed import DistributedSampler

from bench.core.case import Case
from bench.plugins.backend import Session
from bench.workloads.mnist import data
from bench.workloads.mnist.loader import LoaderFeed
from bench.workloads.mnist.shard import DeviceFeed, ShardFeed
from bench.workloads.training import epoch_order, shard_of


class Operations(TorchDispatchMode):
    """Collects the names of torch's operations inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        self.names.append(str(operation))
        return operation(*arguments, **(named or {}))


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


@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1), (4, 2)])
def test_the_feed_of_a_device_gives_the_same_batches(world, rank):
    split = data.load(data.prepare(None, "digits")).train
    case = Case(workload="mnist", backend="ddp", transport="gloo", ranks=world, batch=20_000)
    session = Session(rank=rank, world=world)
    on_host, on_device = ShardFeed(split, case, session), DeviceFeed(split, case, session)
    for _ in range(2 * on_host.steps_an_epoch + 1):
        (inputs, targets), (expected, labels) = on_device.next(), on_host.next()
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, labels)
        assert (inputs.dtype, targets.dtype) == (expected.dtype, labels.dtype)
        assert on_device.last_samples() == on_host.last_samples()


def test_the_feed_of_a_device_does_nothing_in_a_step_but_the_first_of_an_epoch():
    split = data.load(data.prepare(None, "digits")).train
    case = Case(workload="mnist", backend="single", transport="none", ranks=1, batch=20_000)
    feed = DeviceFeed(split, case, Session())
    with Operations() as first:
        feed.next()
    assert {"aten.index_select.out", "aten.add.out", "aten.copy_.default"} <= set(first.names)
    with Operations() as later:
        feed.next()
        feed.next()
    assert later.names == []
    with Operations() as second_epoch:
        feed.next()
    assert not {"aten._local_scalar_dense.default", "aten.item.default"} & set(second_epoch.names)
    assert [name for name in second_epoch.names if "empty" in name] == [], "no memory of the device"


def test_the_stand_in_is_the_size_of_mnist_and_repeats():
    found = data.load(data.prepare(None, "digits"))
    assert found.train.images.shape == (60_000, 784)
    assert found.test.images.shape == (10_000, 784)
    assert set(found.train.labels.tolist()) == set(range(10))
    assert found.source.stands_for == "MNIST"
    assert "stand-in for MNIST" in found.source.name


PREPARE = """
import os, sys
before = dict(os.environ)
from bench.workloads.mnist import data
data.prepare(None, "digits")
assert "sklearn" in sys.modules
print({name: value for name, value in os.environ.items() if before.get(name) != value})
"""


def test_what_makes_the_stand_in_sets_no_variable_that_ranks_would_inherit(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for name in ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", PREPARE], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"
