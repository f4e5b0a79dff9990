"""The accuracy on the test images, and how long training takes to reach one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.core.records import Reading
from bench.workloads.mnist import data
from bench.workloads.training import Training

TEST_BATCH = 1000
CHECKS_AN_EPOCH = 4
"""How often the accuracy is looked at: training ends up to a quarter of an epoch after the target."""


@dataclass(frozen=True)
class TestAccuracy:
    """Measures the accuracy of parameters.

    Args:
        split: The test images.
        model: A model of the same shape, into which the parameters are copied.
        device: Where it computes.
    """

    __test__ = False  # of pytest: this is no class of tests

    split: data.Split
    model: Any
    device: str

    def percent(self, weights: list[Any]) -> float:
        """The share of test images that are classified correctly, in percent; ``weights``: the model's parameters."""
        import torch

        correct = 0
        images, labels = torch.from_numpy(self.split.images), torch.from_numpy(self.split.labels)
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
            for batch_images, batch_labels in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
                inputs = (batch_images.to(self.device, torch.float32) / 255 - data.MEAN) / data.STD
                correct += int((self.model(inputs).argmax(dim=1).cpu() == batch_labels).sum())
        return 100 * correct / len(labels)


@dataclass(frozen=True)
class AccuracyRun:
    """Trains from the beginning until an accuracy is reached.

    Args:
        work: The training; its state is what it was afterwards.
        initial: Its state before the first step (:meth:`bench.plugins.workload.Work.save`).
        make_feed: Makes batches from the first on.
        accuracy: Measures it, on the first rank.
        steps_an_epoch: Steps in which all training images are seen once.
        target_percent: The accuracy to reach.
        max_epochs: When training ends without it.
    """

    work: Training
    initial: Any
    make_feed: Callable[[], Any]
    accuracy: TestAccuracy
    steps_an_epoch: int
    target_percent: float
    max_epochs: int

    def readings(self) -> tuple[Reading, ...]:
        """The time of the training steps, of the slowest rank, without that of the evaluations; every rank calls it."""
        kept, feed = self.work.save(), self.work.feed
        self.work.restore(self.initial)
        self.work.feed = self.make_feed()
        try:
            return self._train()
        finally:
            self.work.feed = feed
            self.work.restore(kept)

    def _train(self) -> tuple[Reading, ...]:
        session, total = self.work.session, self.max_epochs * self.steps_an_epoch
        chunk = max(1, self.steps_an_epoch // CHECKS_AN_EPOCH)
        taken, time_s, reached = 0, 0.0, 0.0
        while taken < total and reached < self.target_percent:
            steps = min(chunk, total - taken)
            session.barrier()
            time_s += session.largest(self._time_of(steps))
            taken += steps
            # Every rank takes part in the snapshot, since each may hold a shard of the parameters only.
            weights = self.work.snapshot()
            reached = session.largest(self.accuracy.percent(weights) if session.rank == 0 else 0.0)
        missed = reached < self.target_percent
        epochs = f"{self.max_epochs} epoch{'s' * (self.max_epochs != 1)}"
        reason = f"{reached:.1f} % after {epochs}, and {self.target_percent:g} % is the target"
        samples = taken * self.work.amount_per_step
        return (
            Reading(name="accuracy_reached", value=reached, unit="%"),
            _reading("time_to_accuracy", time_s, "s", reason if missed else None),
            _reading("samples_to_accuracy", samples, self.work.unit, reason if missed else None),
        )

    def _time_of(self, steps: int) -> float:
        began_s = time.perf_counter()
        for _ in range(steps):
            self.work.step()
        # Waits for the device.
        float(self.work.last_result())
        return time.perf_counter() - began_s


def _reading(name: str, value: float, unit: str, missing: str | None) -> Reading:
    return Reading(name=name, value=None if missing else value, unit=unit, reason=missing)
