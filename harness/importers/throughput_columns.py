"""Which columns of a table of throughputs mean what, and what its rows may have in common (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.importers.csv_rows import Column, parse_number
from harness.planning.limits import MAX_RANKS

MAX_THROUGHPUT = 1e60
MAX_GROUPS = 50
"""Different values of a column, above which it is no group."""
PER_RANK_MARGIN = 1.25
"""Throughputs that differ by less than this factor are about the same."""
PER_RANK_GROWTH = 4
"""How many times the rank count must have grown before they are suspicious."""
REPEATS = re.compile(
    r"(trial|repeat|repetition|rep|run|round|iteration|iter|seed|sample|index|id|line|night|date|time|timestamp"
    r"|started_at|ended_at|at|note|notes|comment|host|hosts|hostname|node|nodelist|job|job_id)s?"
)
"""Names of columns that tell repeats apart, or say something about a row."""


def parse_rank_count(text: str) -> int:
    """A whole number from 1 to :data:`MAX_RANKS`."""
    number = parse_number(text)
    if not 1 <= number <= MAX_RANKS or number != int(number):
        raise ValueError(f"is no rank count; give a whole number from 1 to {MAX_RANKS}")
    return int(number)


def parse_throughput(text: str) -> float:
    """A positive number that can be calculated with, in any unit."""
    number = parse_number(text)
    if number <= 0:
        raise ValueError("is no throughput; give a number above 0")
    return _in_range(number)


def parse_duration(text: str) -> float:
    """A duration that can be calculated with, in any unit."""
    number = parse_number(text)
    if number <= 0:
        raise ValueError("is no duration; give a number above 0")
    return _in_range(number)


def _in_range(number: float) -> float:
    if not 1 / MAX_THROUGHPUT < number < MAX_THROUGHPUT:
        raise ValueError("is out of range; choose another unit")
    return number


RANKS = Column("ranks", parse_rank_count, aliases=("n", "world_size", "gpus", "nodes"))
THROUGHPUT = Column("throughput", parse_throughput)
SECONDS = Column("seconds", parse_duration, aliases=("time_s", "step_s"))
"""Read where a file has no throughput: the time of the same work, or under weak scaling of each rank's."""


@dataclass
class Groups:
    """Finds the columns that look like groups: several of their values occur at the same rank count, and each of them
    at several.

    Args:
        columns: The names of those that nothing else is known of.
    """

    columns: Sequence[str]
    _ranks: dict[str, dict[str, set[int]]] = field(default_factory=dict)

    def add(self, texts: Mapping[str, str], ranks: int) -> None:
        """A row."""
        for name in self.columns:
            values = self._ranks.setdefault(name, {})
            if len(values) <= MAX_GROUPS:
                values.setdefault(texts[name], set()).add(ranks)

    def found(self) -> dict[str, list[str]]:
        """The values of each column that looks like a group, in order of appearance."""
        return {name: list(values) for name, values in self._ranks.items() if _is_group(values)}


def _is_group(values: Mapping[str, set[int]]) -> bool:
    if not 2 <= len(values) <= MAX_GROUPS:
        return False
    counts = list(values.values())
    shared = any(first & second for number, first in enumerate(counts) for second in counts[number + 1 :])
    return shared and all(len(ranks) > 1 for ranks in counts)


def may_be_group(name: str) -> bool:
    """Whether nothing is known of a column by its name."""
    return not REPEATS.fullmatch(name)


def per_rank_hint(by_ranks: Mapping[int, Sequence[float]]) -> str | None:
    """What to look at where throughputs stay the same while the rank count grows; ``None`` elsewhere.

    Args:
        by_ranks: Throughputs by rank count.
    """
    counts = sorted(by_ranks)
    middle = [median(by_ranks[ranks]) for ranks in counts]
    if len(counts) < 2 or counts[-1] < PER_RANK_GROWTH * counts[0] or max(middle) > PER_RANK_MARGIN * min(middle):
        return None
    return f"the throughput is about the same at {counts[0]} and {counts[-1]} ranks: if it is a rank's, give --per-rank"
