"""Sees the end of each optimizer step of a program, by the hooks that torch calls for all optimizers."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

STATE_INITIALIZERS = frozenset(
    {
        ("horovod.torch.functions", "broadcast_optimizer_state"),
        ("torch.distributed.checkpoint.state_dict", "_init_optim_state"),
    }
)
"""Functions, by module and name, that have an optimizer take a step without a gradient, so that it makes its state."""


class OptimizerSteps:
    """Calls ``on_step`` at the end of each step of the program's first optimizer.

    Optimizers nest: Horovod's and ZeRO's call another step inside theirs. The outermost counts. Others that step in
    turn, as those of a GAN do, are counted and mark nothing.

    Args:
        on_step: Called with the optimizer, in the thread of its first step.
    """

    def __init__(self, on_step: Callable[[Any], None]) -> None:
        self._on_step = on_step
        self._outer: FrameType | None = None
        self._thread = 0
        self._pid = os.getpid()
        self._first: Callable[[], Any] = lambda: None
        self._others: set[int] = set()

    @property
    def optimizers(self) -> int:
        """How many have taken steps."""
        return len(self._others) + (self._thread != 0)

    @property
    def thread(self) -> int:
        """The identifier of the thread that steps; that of the main thread before the first step."""
        return self._thread or threading.main_thread().ident or 0

    def install(self, module: ModuleType) -> None:
        """Register the hooks of ``torch.optim.optimizer``."""
        module.register_optimizer_step_pre_hook(self.before)
        module.register_optimizer_step_post_hook(self.after)

    def before(self, optimizer: Any, arguments: Any, named: Any) -> None:
        """A step begins, maybe inside another one."""
        if threading.get_ident() != self._thread and self._thread:
            return
        # The frame of torch's function that calls the hooks: it is on the stack as long as its step is not over, also
        # where an inner one has raised an exception.
        caller = sys._getframe(1)
        if self._outer is None or not _is_below(self._outer, caller):
            self._outer = caller

    def after(self, optimizer: Any, arguments: Any, named: Any) -> None:
        """A step has ended."""
        if sys._getframe(1) is not self._outer:
            return
        self._outer = None
        if self._first() is not optimizer:
            if self._first() is not None:
                self._others.add(id(optimizer))
                return
            if os.getpid() != self._pid or _initializes_state(sys._getframe(1)):
                return
            # The first one, or the next where that does not exist any more.
            self._first = weakref.ref(optimizer)
            self._thread = threading.get_ident()
        self._on_step(optimizer)


def _initializes_state(frame: FrameType | None) -> bool:
    """Whether a step, whose frame this is, trains nothing."""
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in STATE_INITIALIZERS:
            return True
        frame = frame.f_back
    return False


def _is_below(frame: FrameType, caller: FrameType) -> bool:
    """Whether a frame is one of the callers of another one."""
    above = caller.f_back
    while above is not None:
        if above is frame:
            return True
        above = above.f_back
    return False
