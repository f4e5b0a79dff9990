"""The training step of a user's own model: its loss takes a batch of any form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from bench.plugins.backend import Session
from bench.plugins.workload import DataProblem
from bench.workloads.own_model.checks import BatchLoss
from bench.workloads.own_model.feeds import DataFeed
from bench.workloads.own_model.functions import named_arguments, parameter_names
from bench.workloads.training import Training


def takes_pair(loss: Callable[..., Any]) -> bool:
    """Whether a loss is ``loss(outputs, targets)``; ``loss(model, batch)`` has a first parameter of that name."""
    return parameter_names(loss)[:1] != ("model",)


def as_batch_loss(loss: Callable[..., Any], device: str, offered: dict[str, Any]) -> BatchLoss:
    """The loss of a model and a batch, from what the user gave.

    Args:
        loss: ``loss(outputs, targets)`` or ``loss(model, batch)``, and further parameters.
        device: Where its tensors are to be, if it is a module.
        offered: Further arguments, by the names of parameters.
    """
    import torch

    if isinstance(loss, torch.nn.Module):
        on_device = copy.deepcopy(loss).to(device)
        return lambda model, batch: on_device(model(batch[0]), batch[1])
    further = named_arguments(loss, "loss", 2, offered)
    if not takes_pair(loss):
        return lambda model, batch: loss(model, batch, **further)
    return lambda model, batch: loss(model(batch[0]), batch[1], **further)


class ModelTraining(Training):
    """Trains a user's own model.

    Args:
        session: The group of ranks.
        model: The model.
        loss: Its loss.
        feed: The batches of this rank.
        unit: What is counted.
        amount: How much of it is in a step of all ranks.
        settings: As :class:`bench.workloads.training.Training` takes them: the global batch, the options, ….
    """

    def __init__(
        self, session: Session, model: Any, loss: BatchLoss, feed: DataFeed, unit: str, amount: float, **settings: Any
    ) -> None:
        super().__init__(session, model, loss, feed, **settings)
        self.unit, self.amount_per_step = unit, amount
        self._data_digest: str | None = feed.digest
        """Of the data of this rank, until it is known to be that of the others."""

    def fetch(self) -> Any:
        if self._data_digest is not None:
            check_same_data(self._data_digest, self.session)
            self._data_digest = None
        return super().fetch()

    def loss_of(self, batch: Any) -> Any:
        return self.loss_function(self.model, batch)


def check_same_data(digest: str, session: Session) -> None:
    """Raise :class:`DataProblem` on all ranks where the data of one is not that of the others."""
    # So much of a digest is exact as a float64.
    number = float(int(digest[:12], 16))
    if session.largest(number) != -session.largest(-number):
        raise DataProblem(
            "the ranks have different data: make it from `seed` alone, with random numbers of torch, of NumPy's global "
            "generator, or of one that `seed` has seeded"
        )
