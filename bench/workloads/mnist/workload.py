"""MNIST classification by a linear layer, a multi-layer perceptron or a small convolutional network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.core.case import Case, DataSource, Scalar
from bench.core.records import Reading
from bench.core.step_measures import MessageTiming
from bench.plugins.backend import Session
from bench.plugins.workload import DataProblem, Work, Workload
from bench.workloads.mnist import data
from bench.workloads.mnist.accuracy import AccuracyRun, TestAccuracy
from bench.workloads.mnist.loader import LoaderFeed
from bench.workloads.mnist.shard import DeviceFeed, ShardFeed
from bench.workloads.step.options import StepOptions
from bench.workloads.training import Training


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
    target_accuracy: float | None = Field(
        None,
        gt=0,
        le=100,
        description="after the window, train from the beginning until this many percent of the test images are right, "
        "and report the time",
    )
    max_epochs: int = Field(10, ge=1, description="epochs after which target_accuracy counts as not reached")


class MnistTraining(Training):
    """Training that may run whole epochs, and that measures the accuracy on the test images."""

    accuracy: TestAccuracy | None = None
    """Measured at the end of whole epochs; ``None``: it is not."""
    run_to_accuracy: AccuracyRun | None = None

    def finish(self) -> tuple[tuple[Reading, ...], tuple[MessageTiming, ...]]:
        further, messages = super().finish()
        if self.accuracy is not None:
            # Every rank takes part in the snapshot, since each may hold a shard of the parameters only.
            weights = self.snapshot()
            if self.session.rank == 0:
                accuracy = Reading(name="test_accuracy", value=self.accuracy.percent(weights), unit="%")
                loss = Reading(name="final_loss", value=float(self.loss.detach()), unit="nats")
                further = (*further, accuracy, loss)
        if self.run_to_accuracy is not None:
            further = (*further, *self.run_to_accuracy.readings())
        return further, messages


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


def make_feed(
    split: data.Split, case: Case, session: Session, workers: int | None
) -> ShardFeed | DeviceFeed | LoaderFeed:
    """The batches of a rank: read by a DataLoader with so many worker processes, or gathered where they are used."""
    if workers is not None:
        return LoaderFeed(split, case, session, workers)
    return ShardFeed(split, case, session) if session.device == "cpu" else DeviceFeed(split, case, session)


class Mnist(Workload):
    name = "mnist"
    summary = "classify handwritten digits: linear, mlp or cnn"
    options = MnistOptions
    keeps_results = True

    def unsupported_reason(self, case: Case) -> str | None:
        options = MnistOptions(**case.workload_options)
        if case.steps is not None and options.eval:
            return "mnist.eval trains whole epochs: leave --steps out"
        if options.channels_last and options.model != "cnn":
            return f"channels_last: model={options.model} has no convolutions; model=cnn has"
        if options.recompute == "blocks" and options.model == "linear":
            return "recompute=blocks: model=linear is a single layer, and has no blocks"
        if options.target_accuracy is not None and options.cuda_graph:
            return "target_accuracy: a step that is replayed as a graph keeps its feed; leave cuda_graph out"
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
        feed = make_feed(dataset.train, case, session, options.workers)
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
            work.accuracy = self._test_accuracy(dataset.test, options, case, session)
        if options.target_accuracy is not None:
            work.run_to_accuracy = AccuracyRun(
                work=work,
                initial=work.save(),
                make_feed=partial(make_feed, dataset.train, case, session, options.workers),
                accuracy=self._test_accuracy(dataset.test, options, case, session),
                steps_an_epoch=feed.steps_an_epoch,
                target_percent=options.target_accuracy,
                max_epochs=options.max_epochs,
            )
        return work

    def _test_accuracy(self, test: data.Split, options: MnistOptions, case: Case, session: Session) -> TestAccuracy:
        return TestAccuracy(test, make_model(options.model, case.seed).to(session.device), session.device)


WORKLOAD = Mnist()
