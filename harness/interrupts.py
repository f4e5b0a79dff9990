"""Signals that interrupt a command: which of them raise :class:`KeyboardInterrupt`, and when.

An exception can come between any two instructions: also between the start of a job and the assignment of its handle,
and nobody could cancel that job then. Where that matters interrupts are deferred, and allowed where the code waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """SIGTERM raises :class:`KeyboardInterrupt` inside, as does SIGHUP, the end of the terminal, unless that is ignored
    (``nohup``). For the main thread only."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            # A shell passes on to its jobs what its terminal has sent them already.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    ended_by = [signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL else [])]
    before = {number: signal.signal(number, interrupt) for number in ended_by}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Deferral:
    """Holds the first interrupt back while it is ``active``; any other goes to the handler that was there before."""

    def __init__(self) -> None:
        found = {number: signal.getsignal(number) for number in INTERRUPTS}
        # A signal that is ignored, or ends the process, stays as it is.
        self.handlers: dict[int, Callable[[int, FrameType | None], Any]] = {
            number: handler for number, handler in found.items() if callable(handler)
        }
        self.held: int | None = None
        self.active = True

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.active and self.held is None:
            self.held = signum
        else:
            self.handlers[signum](signum, frame)

    def deliver(self) -> None:
        """Hand over what was held back: raises what its handler raises."""
        held, self.held = self.held, None
        if held is not None:
            self.handlers[held](held, None)


_deferrals: list[_Deferral] = []


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold an interrupt back inside: it is raised where :func:`interrupts_allowed` begins, or at the end.

    A second one is raised at once: the user does not want to wait. In another thread than the main one nothing is
    changed, since no interrupt is raised there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    deferral = _Deferral()
    for number in deferral.handlers:
        signal.signal(number, deferral.handle)
    _deferrals.append(deferral)
    try:
        yield
    finally:
        _deferrals.remove(deferral)
        for number, handler in deferral.handlers.items():
            # Not where the handler itself has chosen another meanwhile.
            if signal.getsignal(number) == deferral.handle:
                signal.signal(number, handler)
        deferral.deliver()


@contextmanager
def interrupts_allowed() -> Iterator[None]:
    """Raise interrupts inside, also one that was held back before, within :func:`interrupts_deferred`."""
    if not _deferrals or threading.current_thread() is not threading.main_thread():
        yield
        return
    deferral = _deferrals[-1]
    deferral.active = False
    try:
        deferral.deliver()
        yield
    finally:
        deferral.active = True
