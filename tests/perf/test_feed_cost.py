"""What feeding MNIST costs: the article's DataLoader, our cell, a batch that never changes, and ones that lie ready."""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from bench.core.case import Case
from bench.plugins.backend import Session
from bench.rank.clock import time_steps
from bench.workloads.mnist import data
from bench.workloads.mnist.shard import ShardFeed
from bench.workloads.mnist.workload import make_model
from bench.workloads.training import Training
from tests.perf.conftest import throughput

BATCH, STEPS, PAIRS = 64, 900, 12
ARTICLE_GOAL, FEED_GOAL = 7.5, 0.95
CASE = Case(
    workload="mnist",
    backend="single",
    transport="none",
    ranks=1,
    batch=BATCH,
    steps=STEPS,
    threads=1,
    data=data.prepare(None, "auto"),
)


@pytest.fixture(scope="module", autouse=True)
def train_split():
    torch.set_num_threads(1)
    return data.load(data.prepare(None, "auto")).train


class PerSample(Dataset):
    """The article's feed: every sample is turned into a tensor and normalised by itself."""

    def __init__(self, split):
        self.images, self.labels = split.images.reshape(-1, 28, 28), split.labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        image = torch.from_numpy(self.images[number].copy()).unsqueeze(0).contiguous().to(torch.float32).div(255)
        return image.sub_(data.MEAN).div_(data.STD), int(self.labels[number])


def by_data_loader(split) -> float:
    loader = DataLoader(PerSample(split), batch_size=BATCH, shuffle=True)
    model = make_model("linear", 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss()
    began, steps = 0.0, 300
    for number, (images, labels) in enumerate(loader):
        if number == 20:
            began = time.perf_counter()
        if number == 20 + steps:
            break
        optimizer.zero_grad()
        criterion(model(images.flatten(1)), labels).backward()
        optimizer.step()
    return steps * BATCH / (time.perf_counter() - began)


def test_our_feed_beside_the_article_s(side_by_side, goal, train_split):
    ratios = side_by_side(
        lambda: throughput(CASE),
        lambda: by_data_loader(train_split),
        PAIRS,
        "samples/s of our cell ÷ a DataLoader transforming each sample, batch 64, linear",
    )
    goal("samples/s, mnist ÷ the article's DataLoader", ratios, at_least=ARTICLE_GOAL)


class Resident:
    """The same batch again and again: what a step costs when feeding costs nothing."""

    def __init__(self, feed):
        inputs, targets = feed.next()
        self.batch = inputs.clone(), targets.clone()

    def next(self):
        return self.batch


def rate(feed) -> float:
    work = Training(Session(), make_model("linear", 0), torch.nn.CrossEntropyLoss(), feed, BATCH)
    time_steps(work.step, 50)
    return STEPS * BATCH / sum(time_steps(work.step, STEPS))


def fed(split) -> float:
    return rate(ShardFeed(split, CASE, Session()))


def test_our_feed_beside_a_resident_batch(side_by_side, goal, train_split):
    def resident() -> float:
        return rate(Resident(ShardFeed(train_split, CASE, Session())))

    what = "samples/s of a step with our feed ÷ on a resident batch"
    ratios = side_by_side(lambda: fed(train_split), resident, 40, f"{what}, batch 64, linear")
    goal(what, ratios, at_least=FEED_GOAL)


class Ready:
    """Batches of an epoch that lie normalized in memory: nothing is computed, but each is read for the first time."""

    def __init__(self, feed):
        batches = (feed.next() for _ in range(feed.steps_an_epoch))
        self.batches = itertools.cycle([(inputs.clone(), targets) for inputs, targets in batches])

    def next(self):
        return next(self.batches)


def test_our_feed_beside_batches_that_lie_ready(side_by_side, goal, train_split):
    """How much of what feeding costs is the memory that any new batch comes from."""

    def ready() -> float:
        return rate(Ready(ShardFeed(train_split, CASE, Session())))

    what = "samples/s of a step with our feed ÷ on normalized batches in memory"
    goal(what, side_by_side(lambda: fed(train_split), ready, PAIRS, what), at_least=FEED_GOAL)
