"""The last collective operations of each rank of a trial that hangs, and which rank keeps the others waiting. Pure.

They come from PyTorch's flight recorder (:mod:`bench.rank.flight_recorder`). A process group numbers its collectives
from 1, on each rank alike: ranks that have not begun the one that others wait in are those that are waited for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from bench.core.bounds import Count, RankNumber
from bench.core.frozen_model import FrozenModel
from bench.core.text import one_line

DEFAULT_GROUP = "default_pg"
"""How PyTorch describes the process group of all ranks."""
MAX_NAME_LENGTH = 80
MAX_ENTRIES = 1000
MAX_NAMED_RANKS = 8
MAX_SENTENCES = 4

Name = Annotated[str, Field(max_length=MAX_NAME_LENGTH)]


class FlightEntry(FrozenModel):
    """One operation of a process group."""

    group: Name
    """The process group; :data:`DEFAULT_GROUP` for that of all ranks."""
    operation: Name
    """Such as ``all_reduce``."""
    sequence: Count
    """Its number in the group: among the collectives, or among the transfers between two ranks."""
    tensors: Name = ""
    """What this rank handed in: ``Float [784, 1024]``."""
    collective: bool = True
    """``False``: a transfer between two ranks."""
    done: bool


class FlightRecord(FrozenModel):
    """The last operations that a rank has begun, the oldest first."""

    rank: RankNumber
    entries: Annotated[tuple[FlightEntry, ...], Field(max_length=MAX_ENTRIES)] = ()
    reason: Annotated[str, Field(max_length=500)] | None = None
    """Why none are known."""


def explain_hang(records: Sequence[FlightRecord], running: Collection[int]) -> str | None:
    """Which ranks wait in which operation, and which ones they wait for; ``None`` where no rank waits in one.

    Args:
        records: Of as many ranks as left one.
        running: The ranks that have not ended.

    Returns:
        Such as ``ranks 0, 2 wait in all_reduce (collective 143), which rank 1 has not begun: its last one was
        broadcast (collective 142)``.
    """
    known = [record for record in records if record.reason is None]
    waits = [*_waits_in_collectives(known), *_waits_in_transfers(known)]
    more = len(waits) - MAX_SENTENCES
    sentences = [*waits[:MAX_SENTENCES], *([f"and {more} more waits"] if more > 0 else [])]
    if not sentences:
        return None
    missing = sorted(set(running) - {record.rank for record in known})
    if missing:
        sentences.append(f"of {name_ranks(missing)} the collectives are unknown")
    return "; ".join(sentences)


def _waits_in_collectives(records: Sequence[FlightRecord]) -> Iterator[str]:
    by_group: dict[str, dict[int, list[FlightEntry]]] = {}
    for record in records:
        for entry in record.entries:
            if entry.collective:
                by_group.setdefault(entry.group, {}).setdefault(record.rank, []).append(entry)
    for group in sorted(by_group, key=lambda name: name != DEFAULT_GROUP):
        # Which ranks belong to another group than that of all is known by what they did only.
        everyone: dict[int, list[FlightEntry]] = (
            {record.rank: [] for record in records} if group == DEFAULT_GROUP else {}
        )
        yield from _wait_in_group({**everyone, **by_group[group]})


def _wait_in_group(entries: Mapping[int, Sequence[FlightEntry]]) -> Iterator[str]:
    pending = [entry for own in entries.values() for entry in own if not entry.done]
    if not pending:
        return
    first = min(pending, key=lambda entry: entry.sequence)
    begun = {
        rank: entry for rank, own in entries.items() for entry in own if entry.sequence == first.sequence
    }  # the last one, of a group of transfers that share a number
    waiting = [rank for rank, entry in begun.items() if not entry.done]
    behind = {
        rank: own[-1] if own else None
        for rank, own in entries.items()
        if max((entry.sequence for entry in own), default=0) < first.sequence
    }
    sentence = f"{name_ranks(waiting)} {'wait' if len(waiting) > 1 else 'waits'} in {_title(first)}"
    if behind:
        sentence += f", which {name_ranks(sorted(behind))} {'have' if len(behind) > 1 else 'has'} not begun"
        last = {_title(entry) if entry else "none" for entry in behind.values()}
        if len(last) == 1:
            sentence += f": {'their' if len(behind) > 1 else 'its'} last one was {last.pop()}"
    yield sentence
    yield from _mismatch(begun)


def _mismatch(begun: Mapping[int, FlightEntry]) -> Iterator[str]:
    """Ranks that do something else than most under the same number."""
    kinds = Counter((entry.operation, entry.tensors) for entry in begun.values())
    if len(kinds) < 2:
        return
    by_operation = len({operation for operation, _ in kinds}) > 1
    texts = {
        kind: f"{name_ranks([r for r, e in begun.items() if (e.operation, e.tensors) == kind])} {_kind(kind)}"
        for kind in kinds
    }
    if by_operation or not _sizes_may_differ(next(iter(kinds))[0]):
        yield f"they do not agree on it: {', '.join(list(texts.values())[:4])}"


def _sizes_may_differ(operation: str) -> bool:
    """Whether ranks may hand in tensors of different shapes."""
    return not operation.startswith(("all_reduce", "allreduce", "broadcast", "reduce"))


def _kind(kind: tuple[str, str]) -> str:
    operation, tensors = kind
    return one_line(f"{operation} of {tensors}" if tensors else operation)


def _waits_in_transfers(records: Sequence[FlightRecord]) -> Iterator[str]:
    for record in records:
        entry = next((entry for entry in record.entries if not (entry.collective or entry.done)), None)
        if entry is not None:
            yield f"rank {record.rank} waits in {_title(entry)}"


def _title(entry: FlightEntry) -> str:
    noun = "collective" if entry.collective else "transfer"
    group = "" if entry.group == DEFAULT_GROUP else f" of group {entry.group}"
    return one_line(f"{entry.operation} ({noun} {entry.sequence}{group})")


def name_ranks(ranks: Sequence[int]) -> str:
    """``rank 1``, ``ranks 0, 2``; of more than eight their number too."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > MAX_NAMED_RANKS:
        return f"{len(ranks)} ranks ({', '.join(map(str, ranks[:MAX_NAMED_RANKS]))}, …)"
    return f"ranks {', '.join(map(str, ranks))}"
