"""MNIST classification by a linear layer, a multi-layer perceptron or a small convolutional network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.core.case import Case, DataSource, Scalar
from bench.core.records import MessageTiming, Reading
from bench.plugins.backend import Session
from bench.plugins.workload import DataProblem, Work, Workload
from bench.workloads.mnist import data
from bench.workloads.mnist.loader import LoaderFeed
from bench.workloads.step.options import StepOptions
from bench.workloads.training import Training, epoch_order, shard_of

TEST_BATCH = 1000


class MnistOptions(StepOptions):
    execution: ClassVar[Mapping[str, Scalar | None]] = MappingProxyType({**StepOptions.execution, "workers": None})

    model: Literal["linear", "mlp", "cnn"] = Field("linear", description="linear is one 784→10 layer")
    data: str | None = Field(None, description="folder with MNIST's IDX files, as Kaggle or torchvision leave them")
    source: Literal["auto", "mnist", "digits"] = Field(
        "auto", description="auto downloads MNIST and falls back on scikit-learn's digits; the others insist"
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="processes of a DataLoader that read a rank's images; 0: the rank reads; by default there is no "
        "DataLoader: batches are views of images that were gathered in memory",
    )
    eval: bool = Field(False, description="train whole epochs, then report the accuracy on the test images")
    epochs: int = Field(1, ge=1, description="epochs to train under eval")


class ShardFeed:
    """Batches of this rank's shard, gathered from the images in memory once an epoch and returned as views.

    Images stay bytes until they are used: they are a quarter of the memory to read, and ranks share the originals
    through the page cache (on a GPU they are put on the device). The gather is part of the epoch's first step.
    """

    def __init__(self, split: data.Split, case: Case, session: Session) -> None:
        import torch

        device = session.device
        self.images = torch.from_numpy(split.images) if device == "cpu" else torch.tensor(split.images, device=device)
        self.labels = torch.from_numpy(split.labels).to(device)
        self.session, self.seed, self.global_batch = session, case.seed, case.global_batch
        self.batch = case.global_batch // session.world
        self.steps_an_epoch = len(self.images) // case.global_batch
        pixels = split.images.shape[1]
        self.gathered = torch.empty((self.steps_an_epoch * self.batch, pixels), dtype=torch.uint8, device=device)
        self.uint8_batches = self.gathered.split(self.batch)
        self.inputs = torch.empty((self.batch, pixels), device=device)
        self.offset = torch.tensor(-data.MEAN / data.STD, device=device)
        self.scale = 1 / 255 / data.STD
        self.epoch, self.position = -1, self.steps_an_epoch
        self.shard: Any = None
        self.targets: Any = None

    def next(self) -> tuple[Any, Any]:
        import torch

        if self.position == self.steps_an_epoch:
            self._begin_epoch()
        targets = self.targets[self.position]
        torch.add(self.offset, self.inputs.copy_(self.uint8_batches[self.position]), alpha=self.scale, out=self.inputs)
        self.position += 1
        return self.inputs, targets

    def _begin_epoch(self) -> None:
        self.epoch, self.position = self.epoch + 1, 0
        order = epoch_order(len(self.images), self.seed, self.epoch)
        self.shard = shard_of(order, self.session.rank, self.session.world, self.global_batch)
        shard_rows = self.shard.to(self.session.device)
        gather_rows(self.images, shard_rows, self.gathered)
        self.targets = self.labels[shard_rows].split(self.batch)

    def last_samples(self) -> tuple[int, ...]:
        rows = slice((self.position - 1) * self.batch, self.position * self.batch)
        return tuple(self.shard[rows].tolist())


def gather_rows(source: Any, rows: Any, target: Any) -> None:
    """``target[i] = source[rows[i]]`` for uint8 tensors; on the CPU by NumPy, which copies rows much faster."""
    import numpy as np
    import torch

    if source.device.type != "cpu":
        torch.index_select(source, 0, rows, out=target)
        return
    # mode="clip" lets NumPy write into the target directly; the rows are a permutation, so nothing is clipped.
    np.take(source.numpy(), rows.numpy(), axis=0, out=target.numpy(), mode="clip")


class MnistTraining(Training):
    """Training that may run whole epochs and then measures the accuracy on the test images."""

    test: data.Split | None = None
    evaluated_model: Any = None
    """A model of the same shape, into which the trained parameters are copied."""

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        further, messages = super().finish()
        if self.test is None:
            return further, messages
        import torch

        # Every rank takes part in the snapshot, since each may hold a shard of the parameters only.
        weights = self.snapshot()
        if self.session.rank:
            return further, messages
        correct = 0
        with torch.no_grad():
            for parameter, weight in zip(self.evaluated_model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        images, labels = torch.from_numpy(self.test.images), torch.from_numpy(self.test.labels)
        with torch.no_grad():
            for batch_images, batch_labels in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
                inputs = (batch_images.to(self.session.device, torch.float32) / 255 - data.MEAN) / data.STD
                correct += int((self.evaluated_model(inputs).argmax(dim=1).cpu() == batch_labels).sum())
        accuracy = Reading(name="test_accuracy", value=100 * correct / len(labels), unit="%")
        loss = Reading(name="final_loss", value=float(self.loss.detach()), unit="nats")
        return (*further, accuracy, loss), messages


def make_model(name: str, seed: int) -> Any:
    """The named model with seeded weights; takes ``(batch, 784)``, gives ``(batch, 10)``."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    if name == "linear":
        return nn.Linear(784, 10)
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class Mnist(Workload):
    name = "mnist"
    summary = "classify handwritten digits: linear, mlp or cnn"
    options = MnistOptions

    def unsupported_reason(self, case: Case) -> str | None:
        options = MnistOptions(**case.workload_options)
        if case.steps is not None and options.eval:
            return "mnist.eval trains whole epochs: leave --steps out"
        if options.channels_last and options.model != "cnn":
            return f"channels_last: model={options.model} has no convolutions; model=cnn has"
        if options.recompute == "blocks" and options.model == "linear":
            return "recompute=blocks: model=linear is a single layer, and has no blocks"
        return super().unsupported_reason(case)

    def prepare(self, case: Case) -> DataSource:
        options = MnistOptions(**case.workload_options)
        source = data.prepare(options.data, options.source)
        images = len(data.load(source).train.images)
        if images < case.global_batch * (case.verify_steps + 1):
            raise DataProblem(f"{source.name}: {images} training images are too few for batches of {case.global_batch}")
        return source

    def build(self, case: Case, session: Session) -> Work:
        from torch import nn

        options = MnistOptions(**case.workload_options)
        if case.data is None:
            raise DataProblem("mnist's data was not prepared: the harness does it before it starts ranks")
        dataset = data.load(case.data)
        feed: ShardFeed | LoaderFeed = (
            ShardFeed(dataset.train, case, session)
            if options.workers is None
            else LoaderFeed(dataset.train, case, session, options.workers)
        )
        work = MnistTraining(
            session,
            make_model(options.model, case.seed),
            nn.CrossEntropyLoss(),
            feed,
            case.global_batch,
            learning_rate=0.01 if options.optimizer == "sgd" else None,
            options=options,
        )
        if options.eval:
            # The verified prefix is the beginning of the first epoch.
            work.fixed_steps = options.epochs * feed.steps_an_epoch - case.verify_steps
            work.warmup_steps = 0
            work.test = dataset.test
            work.evaluated_model = make_model(options.model, case.seed).to(session.device)
        return work


WORKLOAD = Mnist()
