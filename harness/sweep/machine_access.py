"""The access of a command to the cores of this machine: no trial of it runs beside one of another command.

Two sweeps at once run trial by trial in turn: both go on, each at half its speed, and a short one does not wait for the
end of a long one. A command that shares the machine takes no lock; what it disturbs, and what disturbs it, is flagged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, Self

from bench.core.records import Condition, Trial
from bench.host.lock_folder import LockHolder, LockUnavailable
from bench.host.machine_lock import HeldLock, MachineLock
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


class MachineAccess:
    """The machine lock as one command takes it; a context manager.

    Args:
        lock: The lock; ``None``: the command measures elsewhere, or the lock can't be used, and is not taken.
    """

    def __init__(self, lock: MachineLock | None = None) -> None:
        self.watcher: WaitWatcher = LoggedWaits()
        self.waited_s = 0.0
        """The time that it has waited so far, in seconds: none of it is a trial's."""
        self._lock, self._depth = lock, 0
        self._held: HeldLock | None = None
        self._problem: LockUnavailable | None = None
        self._seen: set[tuple[str, bool]] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._lock is not None:
            try:
                self._stack.enter_context(self._lock)
            except LockUnavailable as problem:
                self.give_up(problem)
        return self

    def __exit__(self, *problem: object) -> None:
        self.release()
        self._stack.close()

    def acquire(self) -> None:
        """Wait for the lock, unless this command holds it. It is released by :meth:`held`, or :meth:`release`."""
        if self._lock is None or self._lock.shared or self._held is not None:
            return
        began_s, since, waited = time.monotonic(), time.strftime("%H:%M:%S"), False

        def report(holder: LockHolder, more: int) -> None:
            nonlocal waited
            waited = True
            key = (str(holder), holder.is_stopped())
            self.watcher.waits(describe_wait(holder, more, since), again=key in self._seen)
            self._seen.add(key)

        try:
            with interrupts_allowed():
                self._held = self._lock.acquire(report)
        except LockUnavailable as problem:
            self.give_up(problem)
        finally:
            if waited:
                waited_s = time.monotonic() - began_s
                self.waited_s += waited_s
                self.watcher.waited(waited_s)

    def acquire_if_free(self) -> bool:
        """Take the lock where no other command holds it or waits for it. Returns whether this one may use the machine
        now."""
        if self._lock is None or self._lock.shared or self._held is not None:
            return True
        try:
            self._held = self._lock.acquire_if_free()
        except LockUnavailable as problem:
            self.give_up(problem)
            return True
        return self._held is not None

    def release(self) -> None:
        """Release the lock, where it is held."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    @contextmanager
    def held(self) -> Iterator[CommandsBeside]:
        """A context that holds the lock, and releases it; within another one it stays held."""
        self.acquire()
        problem, self._problem = self._problem, None
        if problem is not None:
            log.warning("the machine is not locked, and other sweeps on it may disturb this one: %s", problem)
        self._depth += 1
        beside = CommandsBeside(self._lock)
        try:
            yield beside
        finally:
            self._depth -= 1
            if not self._depth:
                self.release()

    def give_up(self, problem: LockUnavailable) -> None:
        """Take no lock from now on. The first thing that would hold it says so: nothing may come to run at all."""
        self._problem, self._lock = problem, None


class CommandsBeside:
    """The commands that run beside a trial without waiting for its end."""

    def __init__(self, lock: MachineLock | None) -> None:
        self._lock = lock
        self._seen: dict[str, LockHolder] = {}
        self._earlier: set[str] = set()
        for holder in self._look():
            if holder.has_ended:
                self._earlier.add(holder.name)
            else:
                self._seen[holder.name] = holder

    def _look(self) -> list[LockHolder]:
        lock = self._lock
        return [] if lock is None else [holder for holder in lock.look() if lock.disturbs(holder)]

    def conditions(self) -> tuple[Condition, ...]:
        """Those that were there at the beginning of the trial or came later, whether they are gone or not."""
        for holder in self._look():
            if holder.name not in self._earlier:
                self._seen.setdefault(holder.name, holder)
        commands = dict.fromkeys(map(str, self._seen.values()))
        return tuple(
            Condition(name=SHARED_MACHINE, seen=f"{command} measured on the same cores, as --shared allows")
            for command in commands
        )


def with_conditions(trial: Trial, conditions: Sequence[Condition]) -> Trial:
    """The trial with further conditions (pure)."""
    return trial.model_copy(update={"conditions": (*trial.conditions, *conditions)}) if conditions else trial


def open_machine_access(purpose: str, *, here: bool = True, shared: bool = False) -> MachineAccess:
    """The access of a command, which is a context manager.

    Args:
        purpose: What it does, for those who wait for it.
        here: Whether it measures on this machine: elsewhere the queue of the site decides.
        shared: Whether it takes no lock.
    """
    if here:
        try:
            return MachineAccess(MachineLock(purpose, usable_cores(), shared=shared))
        except LockUnavailable as problem:
            access = MachineAccess()
            access.give_up(problem)
            return access
    return MachineAccess()


def describe_wait(holder: LockHolder, more: int, since: str) -> str:
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
    assert holder.command is not None
    pid = holder.command.pid
    return f"{text}; it is stopped: `kill -CONT {pid}` continues it, `kill -KILL {pid}` ends it"
