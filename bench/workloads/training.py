"""A training step and the order of samples: the same code for every training workload and every backend."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Protocol

from bench.plugins.backend import Session
from bench.plugins.workload import Work

LEARNING_RATE = 0.05
MOMENTUM = 0.9


class Feed(Protocol):
    """Hands out this rank's batches."""

    def next(self) -> tuple[Any, Any]:
        """The next batch: inputs and targets on the session's device."""

    def last_samples(self) -> tuple[int, ...]:
        """The sample numbers of the batch handed out last, in order."""


class Training(Work):
    """Stochastic gradient descent with momentum on one model."""

    def __init__(
        self,
        session: Session,
        model: Any,
        loss_function: Callable[[Any, Any], Any],
        feed: Feed,
        global_batch: int,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        import torch

        self.plain_model = model.to(session.device)
        optimizer = torch.optim.SGD(self.plain_model.parameters(), lr=learning_rate, momentum=MOMENTUM)
        self.model, self.optimizer = session.wrap(self.plain_model, optimizer)
        self.loss_function, self.feed, self.session = loss_function, feed, session
        self.amount_per_step = global_batch
        self.loss: Any = None
        self.batch: Any = None

    def step(self) -> None:
        inputs, targets = self.feed.next()
        self.optimizer.zero_grad()
        self.loss = self.loss_function(self.model(inputs), targets)
        self._backward()
        self.optimizer.step()

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        samples, losses = [], []
        for _ in range(steps):
            self.step()
            samples.append(self.feed.last_samples())
            losses.append(float(self.loss.detach()))
        return tuple(samples), tuple(losses)

    def gradient_bytes(self) -> tuple[int, ...]:
        return tuple(one.numel() * one.element_size() for one in self.plain_model.parameters() if one.requires_grad)

    def parts(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        return (
            ("data", self._fetch),
            ("forward", self._forward),
            ("backward", self._backward),
            ("optimizer", self._update),
        )

    def _fetch(self) -> None:
        self.batch = self.feed.next()

    def _forward(self) -> None:
        # The model's own, since Horovod's optimizer refuses to clear gradients that it has not exchanged.
        self.plain_model.zero_grad()
        self.loss = self.loss_function(self.model(self.batch[0]), self.batch[1])

    def _backward(self) -> None:
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        self.loss.backward()

    def _update(self) -> None:
        self.optimizer.step()

    def save(self) -> Any:
        weights = [parameter.detach().clone() for parameter in self.plain_model.parameters()]
        return weights, copy.deepcopy(self.optimizer.state_dict())

    def restore(self, saved: Any) -> None:
        import torch

        weights, state = saved
        with torch.no_grad():
            for parameter, weight in zip(self.plain_model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        self.plain_model.zero_grad()
        self.optimizer.load_state_dict(state)

    def snapshot(self) -> list[Any]:
        return [parameter.detach().to("cpu", copy=True) for parameter in self.plain_model.parameters()]


def epoch_order(samples: int, seed: int, epoch: int) -> Any:
    """The order of all samples in one epoch, an int64 tensor: what torch's DistributedSampler draws."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(samples, generator=generator)


def shard_of(order: Any, rank: int, world: int, global_batch: int) -> Any:
    """This rank's samples of an epoch, in order: every ``world``-th, as DistributedSampler deals them out.

    Only whole global batches are used, so that step k takes ``order[k·B : (k+1)·B]`` at every world size: the
    samples of a step are the same, however many ranks share them.
    """
    usable = len(order) // global_batch * global_batch
    return order[rank:usable:world]
