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

    A part inside another one, such as the forward pass in a closure of the optimizer, counts by itself.

    Args:
        module: The module whose forward pass is timed; ``None``: none is.
    """

    def __init__(self, module: Any | None) -> None:
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
        from torch.utils.data import dataloader

        self._spent_s = dict.fromkeys((DATA, FORWARD, BACKWARD, OPTIMIZER), 0.0)
        self._open: list[str] = []
        """The parts that are going on, the innermost one last."""
        self._since_s = 0.0
        """Up to when the innermost one has been timed."""
        self._replaced: list[tuple[Any, str, Any]] = []
        self._time_calls(dataloader._BaseDataLoaderIter, "__next__", DATA)
        self._time_calls(torch.autograd, "backward", BACKWARD)
        self._handles = [
            register_optimizer_step_pre_hook(lambda *_: self._enter(OPTIMIZER)),
            register_optimizer_step_post_hook(lambda *_: self._leave(OPTIMIZER)),
        ]
        if module is not None:
            self._handles += [
                module.register_forward_pre_hook(lambda *_: self._enter(FORWARD)),
                module.register_forward_hook(lambda *_: self._leave(FORWARD), always_call=True),
            ]

    def leave_out(self, spent_s: float) -> None:
        """Time of the part that is going on belongs to the exchange."""
        if self._open:
            self._spent_s[self._open[-1]] -= spent_s

    def take(self) -> dict[str, float]:
        """The times of the step that ends now, maybe inside the optimizer's; 0 of a part that was not seen."""
        self._add_up()
        parts = {name: max(0.0, spent_s) for name, spent_s in self._spent_s.items()}
        self._spent_s = dict.fromkeys(self._spent_s, 0.0)
        return parts

    def restore(self) -> None:
        """Time nothing any more."""
        for handle in self._handles:
            handle.remove()
        for owner, name, original in self._replaced:
            setattr(owner, name, original)

    def _enter(self, part: str) -> None:
        self._add_up()
        self._open.append(part)

    def _leave(self, part: str) -> None:
        self._add_up()
        # What an exception has ended was not left.
        while part in self._open and self._open.pop() != part:
            pass

    def _add_up(self) -> None:
        now_s = time.perf_counter()
        if self._open:
            self._spent_s[self._open[-1]] += now_s - self._since_s
        self._since_s = now_s

    def _time_calls(self, owner: type | ModuleType, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._enter(part)
            try:
                return original(*arguments, **named)
            finally:
                self._leave(part)

        self._replaced.append((owner, name, original))
        setattr(owner, name, timed)
