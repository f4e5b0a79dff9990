"""The optimizers that an option of the step chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class OptimizerChoice(NamedTuple):
    """An optimizer of ``torch.optim`` with its settings."""

    name: str
    learning_rate: float
    settings: dict[str, Any]


OPTIMIZERS = {
    "sgd": OptimizerChoice("SGD", 0.05, {"momentum": 0.9}),
    "adam": OptimizerChoice("Adam", 1e-3, {}),
    "adamw": OptimizerChoice("AdamW", 1e-3, {}),
    "rmsprop": OptimizerChoice("RMSprop", 1e-3, {}),
}


def torch_optimizer_of(optimizer: Any) -> Any:
    """The optimizer of torch in what a session has built: schedules and loss scaling take no other."""
    from torch.optim import Optimizer

    return optimizer if isinstance(optimizer, Optimizer) else optimizer.optimizer


def chosen_optimizer(
    name: str, learning_rate: float | None, parameters: Iterable[Any], *, capturable: bool = False
) -> Any:
    """The optimizer of a name in :data:`OPTIMIZERS`; a learning rate of ``None`` is the one there.

    ``capturable``: a CUDA graph can hold its update, as it always can of SGD.
    """
    import torch

    choice = OPTIMIZERS[name]
    chosen_rate = choice.learning_rate if learning_rate is None else learning_rate
    settings = choice.settings | ({"capturable": True} if capturable and choice.name != "SGD" else {})
    return getattr(torch.optim, choice.name)(parameters, lr=chosen_rate, **settings)
