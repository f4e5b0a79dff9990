"""The ends of a program's steps, in memory that is allocated before they are taken."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from statistics import median

CAPACITY = 2**16
"""The steps that are remembered: the last ones. A power of two."""
SLOTS = 8
"""The most DataLoaders that are told apart."""


class Marks:
    """When each of the last :data:`CAPACITY` steps ended, and how much had been fetched by then."""

    def __init__(self) -> None:
        self.count = 0
        """The number of the last mark, from 1; 0: there is none."""
        self.wall_ns = array("q", bytes(8 * CAPACITY))
        """On the monotonic clock, by ``number % CAPACITY``."""
        self.cpu_ns = array("q", bytes(8 * CAPACITY))
        """Processor time of the process."""
        self.spent_ns = array("q", bytes(8 * CAPACITY))
        """What watching had taken by then."""
        self.amounts: list[array[float]] = []
        """What each DataLoader had yielded by then, in units of work."""
        self.last_loader = array("b", bytes(CAPACITY))
        """The DataLoader that yielded last."""

    def keep_amounts(self, amounts: Sequence[float], used: int, last_loader: int) -> None:
        """Keep what the first ``used`` DataLoaders have yielded by the end of the step after :attr:`count`."""
        slot = (self.count + 1) % CAPACITY
        while len(self.amounts) < used:
            # Once for each loader, before or in its first step.
            self.amounts.append(array("d", bytes(8 * CAPACITY)))
        for loader in range(used):
            self.amounts[loader][slot] = amounts[loader]
        self.last_loader[slot] = last_loader

    def holds(self, first: int) -> bool:
        """Whether the mark of that number is still remembered."""
        return 0 < first <= self.count < first + CAPACITY

    def durations_s(self, first: int, last: int) -> list[float]:
        """The durations of the steps after mark ``first`` up to mark ``last``, in seconds."""
        ends = [self.wall_ns[number % CAPACITY] for number in range(first, last + 1)]
        return [(after - before) / 1e9 for before, after in itertools.pairwise(ends)]

    def between_s(self, first: int, last: int) -> float:
        """The time between two marks, in seconds."""
        return (self.wall_ns[last % CAPACITY] - self.wall_ns[first % CAPACITY]) / 1e9

    def cpu_between_s(self, first: int, last: int) -> float:
        """The processor time between two marks, in seconds."""
        return (self.cpu_ns[last % CAPACITY] - self.cpu_ns[first % CAPACITY]) / 1e9

    def watching_s(self, first: int, last: int) -> float:
        """What watching takes in a step, in seconds: the median, as a step in which the system stops the process for
        others may do so there."""
        totals = [self.spent_ns[number % CAPACITY] for number in range(first, last + 1)]
        return median(after - before for before, after in itertools.pairwise(totals)) / 1e9

    def at_s(self, number: int) -> float:
        """When a step ended, in seconds of the monotonic clock."""
        return self.wall_ns[number % CAPACITY] / 1e9
