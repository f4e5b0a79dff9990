"""Times the parts of a program's steps on a CPU, from outside: each is a call of torch that a step makes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

DATA, FORWARD, BACKWARD, OPTIMIZER = "data", "forward", "backward", "optimizer"


class StepParts:
    """The time in the parts of the step that is being taken, until :meth:`restore`.

    Args:
        module: The module whose forward pass is timed; ``None``: none is.
    """

    def __init__(self, module: Any | None) -> None:
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
        from torch.utils.data import dataloader

        self._spent_s = dict.fromkeys((DATA, FORWARD, BACKWARD, OPTIMIZER), 0.0)
        self._handles = [
            register_optimizer_step_pre_hook(self._begin_update),
            register_optimizer_step_post_hook(self._end_update),
        ]
        self._depth, self._update_s, self._forward_s, self._backward_calls = 0, 0.0, 0.0, 0
        self._replaced: list[tuple[Any, str, Any]] = []
        self._time_calls(dataloader._BaseDataLoaderIter, "__next__", DATA)
        self._time_calls(torch.autograd, "backward", BACKWARD)
        if module is not None:
            self._handles += [
                module.register_forward_pre_hook(self._begin_forward),
                module.register_forward_hook(self._end_forward),
            ]

    def leave_out(self, spent_s: float) -> None:
        """Time of the part that is going on belongs to the exchange."""
        if self._backward_calls:
            self._spent_s[BACKWARD] -= spent_s
        elif self._depth:
            self._spent_s[OPTIMIZER] -= spent_s

    def take(self) -> dict[str, float]:
        """The times of the step that ends now, by part; 0 of a part that was not seen."""
        if self._depth:
            # It ends inside the update, among the optimizer's hooks.
            now_s = time.perf_counter()
            self._spent_s[OPTIMIZER] += now_s - self._update_s
            self._update_s = now_s
        parts = {name: max(0.0, spent_s) for name, spent_s in self._spent_s.items()}
        self._spent_s = dict.fromkeys(self._spent_s, 0.0)
        return parts

    def restore(self) -> None:
        """Time nothing any more."""
        for handle in self._handles:
            handle.remove()
        for owner, name, original in self._replaced:
            setattr(owner, name, original)

    def _time_calls(self, owner: type | ModuleType, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            began_s = time.perf_counter()
            self._backward_calls += part == BACKWARD
            try:
                return original(*arguments, **named)
            finally:
                self._backward_calls -= part == BACKWARD
                self._spent_s[part] += time.perf_counter() - began_s

        self._replaced.append((owner, name, original))
        setattr(owner, name, timed)

    def _begin_update(self, *_: Any) -> None:
        if not self._depth:
            self._update_s = time.perf_counter()
        self._depth += 1

    def _end_update(self, *_: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if not self._depth:
            self._spent_s[OPTIMIZER] += time.perf_counter() - self._update_s

    def _begin_forward(self, *_: Any) -> None:
        self._forward_s = time.perf_counter()

    def _end_forward(self, *_: Any) -> None:
        self._spent_s[FORWARD] += time.perf_counter() - self._forward_s
