"""The training step and the order of samples, shared by all training workloads and independent of the backend."""

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
    """The batches of one rank."""

    def next(self) -> tuple[Any, Any]:
        """The next batch of this rank: inputs and targets, tensors on the session's device.

        Their first dimension is the global batch ÷ the number of ranks. With N ranks, the batches that the ranks get in
        step k together hold the samples that a session of one rank gets in step k.
        """

    def last_samples(self) -> tuple[int, ...]:
        """The sample numbers of the batch that :meth:`next` returned last, in order."""


class Training(Work):
    """Trains one model by stochastic gradient descent with momentum.

    Args:
        session: The group of ranks that trains it.
        model: A ``torch.nn.Module`` with the same initial parameters on every rank; it is moved to the session's
            device. Its output for a sample must not depend on the other samples of the batch (no batch normalization).
        loss_function: ``loss_function(model(inputs), targets)`` returns the mean loss of the batch, a scalar tensor.
        feed: The batches of this rank.
        global_batch: Samples in a step, of all ranks together.
        learning_rate: The step size of the optimizer.
    """

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

        model = model.to(session.device)
        # Taken before the model is parallel: its parameters may be shards afterwards.
        self._gradient_bytes = tuple(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        self.model = session.parallelize(model)
        self.optimizer = session.build_optimizer(
            self.model, lambda parameters: torch.optim.SGD(parameters, lr=learning_rate, momentum=MOMENTUM)
        )
        self.loss_function, self.feed, self.session = loss_function, feed, session
        self.amount_per_step = global_batch
        self.loss: Any = None
        self.batch: Any = None

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        samples, losses = [], []
        for _ in range(steps):
            self.step()
            samples.append(self.feed.last_samples())
            losses.append(float(self.loss.detach()))
        return tuple(samples), tuple(losses)

    def last_result(self) -> Any:
        # Takes half the time of detach(), which counts after every step.
        return self.loss.data

    def gradient_bytes(self) -> tuple[int, ...]:
        return self._gradient_bytes

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
        # Not the optimizer's zero_grad: Horovod's refuses to clear gradients that it has not exchanged.
        self.model.zero_grad()
        self.loss = self.loss_function(self.model(self.batch[0]), self.batch[1])

    def _backward(self) -> None:
        if self.injected_delay_s:
            time.sleep(self.injected_delay_s)
        self.loss.backward()

    def _update(self) -> None:
        self.optimizer.step()

    def save(self) -> Any:
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        return weights, copy.deepcopy(self.optimizer.state_dict())

    def restore(self, saved: Any) -> None:
        import torch

        weights, state = saved
        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(weight)
        self.model.zero_grad()
        self.optimizer.load_state_dict(state)

    def snapshot(self) -> list[Any]:
        return [self.session.full_tensor(parameter).to("cpu", copy=True) for parameter in self.model.parameters()]


def epoch_order(samples: int, seed: int, epoch: int) -> Any:
    """The order of all samples in one epoch, as torch's DistributedSampler draws it: int64 of shape ``(samples,)``."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    return torch.randperm(samples, generator=generator)


def shard_of(order: Any, rank: int, world: int, global_batch: int) -> Any:
    """This rank's samples of an epoch, in order: every ``world``-th, as DistributedSampler distributes them.

    Only whole global batches are used, so that step k takes ``order[k·B : (k+1)·B]`` at every world size: the
    samples of a step are the same, however many ranks share them.
    """
    usable = len(order) // global_batch * global_batch
    return order[rank:usable:world]
