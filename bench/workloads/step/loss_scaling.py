"""Steps in float16: the loss is scaled, so that small gradients are not rounded to zero (Micikevicius et al. 2018,
Mixed Precision Training, arXiv:1710.03740)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class LossScaler:
    """torch's ``GradScaler`` for a step that exchanges gradients between the backward pass and the update.

    Gradients are exchanged while they are scaled, by the same factor on every rank, so that an overflow of one rank is
    one of all: they skip the same updates.

    Args:
        device: The session's device.
        optimizer: Has the ``param_groups`` whose gradients are scaled.
        update: Updates the parameters by gradients that are not scaled any more.
    """

    def __init__(self, device: str, optimizer: Any, update: Callable[[], None]) -> None:
        import torch

        self._scaler = torch.amp.GradScaler(device.split(":")[0])
        self._target = _Target(optimizer, update)
        self._steps = 0

    @property
    def scale(self) -> float:
        """The factor of the next loss, a power of two. Waits for the device."""
        return float(self._scaler.get_scale())

    @property
    def skipped(self) -> int:
        """Steps that updated nothing, since a gradient overflowed."""
        return self._steps - self._target.updates

    def scaled(self, loss: Any) -> Any:
        """The loss to differentiate."""
        return self._scaler.scale(loss)

    def finish(self, adjust_gradients: Callable[[], None]) -> None:
        """Divide the exchanged gradients by the scale, adjust them, and update unless one is not finite."""
        self._steps += 1
        self._scaler.unscale_(self._target)
        adjust_gradients()
        self._scaler.step(self._target)
        self._scaler.update()

    def save(self) -> Any:
        """A copy of its state."""
        return self._scaler.state_dict(), self._steps, self._target.updates

    def restore(self, saved: Any) -> None:
        """Restore what :meth:`save` returned."""
        state, self._steps, self._target.updates = saved
        self._scaler.load_state_dict(state)


class _Target:
    """What ``GradScaler`` takes for the optimizer: it finds gradients by ``param_groups`` and calls ``step``."""

    def __init__(self, optimizer: Any, update: Callable[[], None]) -> None:
        self._optimizer, self._update, self.updates = optimizer, update, 0

    @property
    def param_groups(self) -> Any:
        return self._optimizer.param_groups

    def step(self) -> None:
        self._update()
        self.updates += 1
