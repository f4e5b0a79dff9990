"""Collective operations of N ranks: their names, message sizes and bandwidths, in the definitions of nccl-tests. Pure.

The size S of a message is in bytes. It is what each rank reduces (all_reduce), holds before (reduce_scatter) or after
the operation (all_gather), sends in all (all_to_all) or once (broadcast, send_recv). With the time t of an operation,

    algorithm bandwidth = S ÷ t        bus bandwidth = algorithm bandwidth × factor

    all_reduce                                2(N−1)/N
    all_gather, reduce_scatter, all_to_all    (N−1)/N
    broadcast, send_recv                      1

The factor is the number of times that a byte of the message crosses the slowest link of a rank at least, so that bus
bandwidth can be compared with that of the hardware, whatever N is. From NVIDIA's nccl-tests, doc/PERFORMANCE.md and
src/*.cu.
"""

from __future__ import annotations

from typing import Literal, get_args

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv"]
COLLECTIVES: tuple[Collective, ...] = get_args(Collective)
DIVIDED: frozenset[Collective] = frozenset({"all_gather", "reduce_scatter", "all_to_all"})
"""Operations whose message consists of a part of equal size for each rank."""
ROOT = 0
"""The rank that broadcasts."""


def bus_factor(operation: Collective, ranks: int) -> float:
    """Bus bandwidth ÷ algorithm bandwidth; 0 for one rank, which exchanges with no other."""
    if ranks == 1:
        return 0.0
    if operation == "all_reduce":
        return 2 * (ranks - 1) / ranks
    return (ranks - 1) / ranks if operation in DIVIDED else 1.0


def message_sizes(begin: int, end: int, factor: int) -> tuple[int, ...]:
    """From ``begin``, each ``factor`` times the one before, ending with ``end``; in bytes.

    nccl-tests ends with the last one that is not above its end.
    """
    sizes, size = [], begin
    while size < end:
        sizes.append(size)
        size *= factor
    return (*sizes, end)


def message_elements(operation: Collective, message_bytes: int, element_bytes: int, ranks: int) -> int:
    """The elements of a message of a size: rounded down so that each rank has an equal part, which is never empty."""
    elements = max(1, message_bytes // element_bytes)
    return max(1, elements // ranks) * ranks if operation in DIVIDED else elements


def buffer_elements(operation: Collective, elements: int, ranks: int) -> tuple[int, int]:
    """The elements that each rank hands in, and those that it has afterwards, of a message of so many elements."""
    part = elements // ranks
    sent = part if operation == "all_gather" else elements
    received = part if operation == "reduce_scatter" else elements
    return sent, received
