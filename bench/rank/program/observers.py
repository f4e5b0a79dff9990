"""What is observed of a program in a few steps after its window, before it is stopped."""

from __future__ import annotations

from typing import Any, Protocol

Fields = dict[str, Any]
"""Fields of a :class:`bench.core.records.RankRecord`."""


class Observer(Protocol):
    """Observes some steps of a program on every rank, in the thread that trains."""

    @property
    def steps(self) -> int:
        """How many steps it needs; the same on all ranks of a case."""

    def begin(self) -> None:
        """Called at the end of the last step before those steps."""

    def step_ended(self) -> None:
        """Called at the end of each of them."""

    def finish(self) -> Fields:
        """Called after the last of them, or earlier where the program has ended by itself: what is known by then."""
