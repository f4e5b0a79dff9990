"""Turns of a command that measures on this machine: no trial of it runs beside one of another command.

Two sweeps at once take turns trial by trial: both go on, each at half its speed, and a short one does not wait for the
end of a long one. A command that shares the machine takes no turns; what it disturbs, and what disturbs it, is flagged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, Self

from bench.core.records import Condition, Trial
from bench.host.machine_turns import Holder, MachineTurns, Turn, TurnsUnavailable
from bench.host.resources import usable_cores
from harness.interrupts import interrupts_allowed

log = logging.getLogger("scaling_harness")

SHARED_MACHINE = "shared_machine"


class WaitWatcher(Protocol):
    """Shows people that a command waits."""

    def waits(self, text: str, *, again: bool) -> None:
        """Called about once a second while it waits. ``again``: it has waited for that command before."""

    def waited(self, time_s: float) -> None:
        """Called at the end of a wait."""


class LoggedWaits:
    """Logs that a command waits, once for each command that it waits for."""

    def waits(self, text: str, *, again: bool) -> None:
        if not again:
            log.info("%s", text)

    def waited(self, time_s: float) -> None:
        return


class Turns:
    """The turns of one command; a context manager.

    Args:
        machine: Those of the machine; ``None``: it measures elsewhere, or turns can't be taken, and none are.
    """

    def __init__(self, machine: MachineTurns | None = None) -> None:
        self.watcher: WaitWatcher = LoggedWaits()
        self.waited_s = 0.0
        """The time that it has waited so far, in seconds: none of it is a trial's."""
        self._machine, self._turn, self._depth = machine, None, 0
        self._problem: TurnsUnavailable | None = None
        self._seen: set[tuple[str, bool]] = set()
        self._stack = ExitStack()

    _turn: Turn | None

    def __enter__(self) -> Self:
        if self._machine is not None:
            try:
                self._stack.enter_context(self._machine)
            except TurnsUnavailable as problem:
                self.give_up(problem)
        return self

    def __exit__(self, *problem: object) -> None:
        self.release()
        self._stack.close()

    def take(self) -> None:
        """Wait for a turn, unless this command has one. It ends with :meth:`turn`, or with :meth:`release`."""
        if self._machine is None or self._machine.shared or self._turn is not None:
            return
        began_s, since, waited = time.monotonic(), time.strftime("%H:%M:%S"), False

        def report(holder: Holder, more: int) -> None:
            nonlocal waited
            waited = True
            key = (str(holder), holder.is_stopped())
            self.watcher.waits(describe_wait(holder, more, since), again=key in self._seen)
            self._seen.add(key)

        try:
            with interrupts_allowed():
                self._turn = self._machine.take(report)
        except TurnsUnavailable as problem:
            self.give_up(problem)
        finally:
            if waited:
                waited_s = time.monotonic() - began_s
                self.waited_s += waited_s
                self.watcher.waited(waited_s)

    def release(self) -> None:
        """End the turn, if there is one."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()

    @contextmanager
    def turn(self) -> Iterator[Company]:
        """A context that runs in a turn, and ends it; within another one it is the same turn."""
        self.take()
        problem, self._problem = self._problem, None
        if problem is not None:
            log.warning("no turns are taken, and other sweeps of this machine may disturb this one: %s", problem)
        self._depth += 1
        company = Company(self._machine)
        try:
            yield company
        finally:
            self._depth -= 1
            if not self._depth:
                self.release()

    def give_up(self, problem: TurnsUnavailable) -> None:
        """Take none from now on. The first thing that would have a turn says so: nothing may come to run at all."""
        self._problem, self._machine = problem, None


class Company:
    """The commands that run beside a trial without waiting for its end."""

    def __init__(self, machine: MachineTurns | None) -> None:
        self._machine = machine
        self._seen = dict.fromkeys(self._present())

    def _present(self) -> list[str]:
        if self._machine is None:
            return []
        shared = self._machine.shared
        return [str(other) for other in self._machine.others() if shared or (other.ticket and other.ticket.shared)]

    def conditions(self) -> tuple[Condition, ...]:
        """Those that were there at the beginning of the trial or are now, at its end."""
        self._seen |= dict.fromkeys(self._present())
        return tuple(
            Condition(name=SHARED_MACHINE, seen=f"{other} measured on the same cores, as --shared allows")
            for other in self._seen
        )


def with_conditions(trial: Trial, conditions: Sequence[Condition]) -> Trial:
    """The trial with further conditions (pure)."""
    return trial.model_copy(update={"conditions": (*trial.conditions, *conditions)}) if conditions else trial


def open_turns(purpose: str, *, here: bool = True, shared: bool = False) -> Turns:
    """The turns of a command, which is a context manager.

    Args:
        purpose: What it does, for those who wait for it.
        here: Whether it measures on this machine: elsewhere the queue of the site decides.
        shared: Whether it takes no turns.
    """
    if here:
        try:
            return Turns(MachineTurns(purpose, usable_cores(), shared=shared))
        except TurnsUnavailable as problem:
            turns = Turns()
            turns.give_up(problem)
            return turns
    return Turns()


def describe_wait(holder: Holder, more: int, since: str) -> str:
    """What is shown of a wait (pure but for a look at the process that is waited for).

    Args:
        holder: Who is waited for.
        more: How many others come first, too.
        since: When it began.
    """
    queue = f", then {more} more" if more else ""
    text = f"waiting since {since} for {holder}{queue}"
    if not holder.is_stopped():
        return text
    assert holder.ticket is not None
    pid = holder.ticket.pid
    return f"{text}; it is stopped: `kill -CONT {pid}` continues it, `kill -KILL {pid}` ends it"
