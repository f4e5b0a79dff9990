"""How long a store is waited for that somebody else has locked, or whose server does not answer for a while.

SQLite waits for a lock inside its own C code, where Ctrl-C does not reach it, and tells nobody. Here each statement is
tried again and again until the patience is at an end: with pauses that can be interrupted, and a message a minute.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from harness.interrupts import interrupts_allowed

DEFAULT_PATIENCE_S = 30.0
"""Of a command that only reads or adds a little; ``?timeout=SECONDS`` in the URL of a SQLite store sets another."""
SWEEP_PATIENCE_S = 3600.0
"""Of a running sweep: its trial has ended, and would have to be measured again."""
BUSY_TIMEOUT_MS = 100
"""How long SQLite itself waits."""
PAUSE_S = 0.1
FIRST_MESSAGE_S, MESSAGE_INTERVAL_S = 10.0, 60.0

log = logging.getLogger("scaling_harness")


class Patience:
    """How long a database is waited for.

    Args:
        limit_s: In seconds.
        fixed: The user has chosen it: :meth:`extended` changes nothing.
        clock: In seconds.
        sleep: Lets seconds pass.
    """

    def __init__(
        self,
        limit_s: float = DEFAULT_PATIENCE_S,
        *,
        fixed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.limit_s, self.fixed, self._clock, self._sleep = limit_s, fixed, clock, sleep

    @contextmanager
    def extended(self, limit_s: float = SWEEP_PATIENCE_S) -> Iterator[None]:
        """A context with more patience."""
        before = self.limit_s
        self.limit_s = before if self.fixed else max(before, limit_s)
        try:
            yield
        finally:
            self.limit_s = before

    def attempts(self, label: str, problem: str, pause_s: float = PAUSE_S) -> Iterator[float]:
        """The seconds left before each attempt, with a pause after each; at the end of the patience there is a last
        one with 0 left.

        Args:
            label: What is waited for, for messages.
            problem: Why, for messages.
            pause_s: Between two attempts, in seconds.
        """
        began, next_message_s = self._clock(), FIRST_MESSAGE_S
        while True:
            waited_s = self._clock() - began
            if waited_s >= next_message_s:
                log.warning("%s: %s; waiting for it, at most %.0f s more", label, problem, self.limit_s - waited_s)
                next_message_s += MESSAGE_INTERVAL_S
            left_s = max(0.0, self.limit_s - waited_s)
            yield left_s
            if not left_s:
                return
            with interrupts_allowed():
                self._sleep(min(pause_s, left_s))


def patience_of(url: sa.URL) -> Patience:
    """The patience that a store's URL asks for."""
    with suppress(ValueError, KeyError):
        limit_s = float(str(url.query["timeout"]))
        if url.get_backend_name() == "sqlite" and not math.isnan(limit_s):
            return Patience(max(0.0, limit_s), fixed=True)
    return Patience()


def wait_for_locks(engine: sa.Engine, patience: Patience, label: str) -> None:
    """Have all statements of a SQLite engine wait for locks with ``patience``. ``label``: its name, for messages."""

    def shorten(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    def execute(cursor: sqlite3.Cursor, statement: str, parameters: Any, _: object) -> bool:
        for left_s in patience.attempts(f"store {label}", "another program has locked it"):
            try:
                cursor.execute(statement, parameters)
                break
            except sqlite3.OperationalError as problem:
                if not left_s or not is_busy(problem):
                    raise
        return True

    sa.event.listen(engine, "connect", shorten)
    sa.event.listen(engine, "do_execute", execute)


def is_busy(problem: BaseException | None) -> bool:
    """Whether SQLite reports that another connection holds a lock."""
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


PERMANENT_ERRORS = (
    "password authentication failed",
    "no password supplied",
    '" does not exist',
    "pg_hba.conf",
)
TRANSIENT_STATES = ("08", "57P", "53300", "55P03", "57014", "40001", "40P01")
"""Beginnings of PostgreSQL's codes: lost connections, a server that starts or stops, too many connections, locks that
were waited for too long, and transactions that got in each other's way."""


def is_transient(problem: BaseException) -> bool:
    """Whether a PostgreSQL server may well do the same a little later: it restarts, or somebody holds a lock."""
    cause = getattr(problem, "orig", None)
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return str(state).startswith(TRANSIENT_STATES)
    # A refused or lost connection has no code; nor has one that was refused for good.
    message = str(cause)
    return isinstance(problem, sa.exc.OperationalError) and not any(
        permanent in message for permanent in PERMANENT_ERRORS
    )
