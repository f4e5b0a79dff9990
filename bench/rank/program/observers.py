"""What is observed of a program in a few steps after its window, before it is stopped."""

from __future__ import annotations

from typing import Any, Protocol

from bench.core.case import Case
from bench.rank.program.decomposition import Decomposition
from bench.rank.program.imports import ImportWatch

Fields = dict[str, Any]
"""Fields of a :class:`bench.core.records.RankRecord`."""


class Observer(Protocol):
    """Observes some steps of a program on every rank, in the thread that trains."""

    def steps(self, step_s: float | None) -> int:
        """How many steps it needs.

        Args:
            step_s: About how long a step takes, in seconds, on the rank that decides for all; ``None``: the number of
                steps is to be the same on all ranks of a case without that.
        """

    def install(self, imports: ImportWatch) -> None:
        """Called before the program begins: to see, once it imports them, the modules that are to be observed. Whatever
        is put there costs next to nothing until :meth:`begin`."""

    def begin(self, steps: int) -> None:
        """Called at the end of the last step before those steps. ``steps``: how many there are."""

    def step_ended(self) -> None:
        """Called at the end of each of them."""

    def finish(self) -> Fields:
        """Called after the last of them, or earlier where the program has ended by itself: what is known by then."""


def observers_of(case: Case) -> tuple[Observer, ...]:
    """What is observed after the window of a case: the same on all ranks."""
    return (Decomposition(case),) if case.decompose else ()
