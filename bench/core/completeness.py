"""Whether the records of the ranks of a trial belong together: only then do they give a number."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol


class MeasuredMessage(Protocol):
    @property
    def message_bytes(self) -> int: ...
    @property
    def operation(self) -> str: ...
    @property
    def times_s(self) -> Sequence[float]: ...


class MeasuredRank(Protocol):
    """What is looked at of a :class:`bench.core.records.RankRecord`, which imports this module."""

    @property
    def rank(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def steps_per_entry(self) -> int: ...
    @property
    def unit(self) -> str: ...
    @property
    def amount_per_step(self) -> float: ...
    @property
    def messages(self) -> Sequence[MeasuredMessage]: ...


DESCRIBED: Mapping[str, Callable[[MeasuredRank], Hashable]] = {
    "measured different numbers of steps": lambda record: record.steps,
    "timed blocks of different numbers of steps": lambda record: record.steps_per_entry,
    "counted different units of work": lambda record: record.unit,
    "counted different amounts of work in a step": lambda record: record.amount_per_step,
    "timed different messages": lambda record: tuple(
        (one.operation, one.message_bytes, len(one.times_s)) for one in record.messages
    ),
}
"""What is the same on all ranks of a trial, by what is wrong where it is not."""


def inconsistency(ranks: Sequence[MeasuredRank], expected: int) -> str | None:
    """Why no number can be made of the records of a trial, in one line; ``None`` where it can (pure).

    Args:
        ranks: The records.
        expected: The number of ranks of its case.
    """
    present = [record.rank for record in ranks]
    # Not a set of all numbers: a damaged case may claim a million ranks.
    if len(present) < expected:
        missing = next(rank for rank, there in enumerate([*sorted(set(present)), -1]) if rank != there)
        return f"rank {missing} left no record"
    if present != list(range(expected)):
        repeated = next((rank for rank in present if present.count(rank) > 1), None)
        return f"rank {repeated} left two records" if repeated is not None else "the ranks are not numbered from 0 on"
    for what, describe in DESCRIBED.items():
        if len({describe(record) for record in ranks}) > 1:
            return f"the ranks {what}"
    return None
