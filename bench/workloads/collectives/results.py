"""What each rank of a collective operation hands in, and what it must have afterwards, for the check of results.

Element i that rank r hands in is (i + 3r) mod 5: small integers, whose sums are exact in every type, so that results
are compared bit by bit, and no two neighbouring ranks or elements are alike.
"""

from __future__ import annotations

from typing import Any

from bench.core.collectives import ROOT, Collective, buffer_elements

LARGEST_VALUE = 4


def handed_in(rank: int, first: int, count: int, dtype: Any) -> Any:
    """The elements from ``first`` on that a rank hands in: a flat tensor on the CPU."""
    import torch

    return ((torch.arange(first, first + count) + 3 * rank) % (LARGEST_VALUE + 1)).to(dtype)


def expected_result(operation: Collective, rank: int, ranks: int, elements: int, dtype: Any) -> Any:
    """What a rank must have after an operation: a flat tensor on the CPU.

    Args:
        operation: The operation.
        rank: The number of this rank.
        ranks: The number of ranks.
        elements: Of the message (:func:`bench.core.collectives.message_elements`).
        dtype: Of the message.
    """
    import torch

    part = elements // ranks
    if operation == "broadcast":
        return handed_in(ROOT, 0, elements, dtype)
    if operation == "send_recv":
        return handed_in((rank - 1) % ranks, 0, elements, dtype)
    if operation == "all_gather":
        return torch.cat([handed_in(other, 0, part, dtype) for other in range(ranks)])
    if operation == "all_to_all":
        return torch.cat([handed_in(other, rank * part, part, dtype) for other in range(ranks)])
    _, received = buffer_elements(operation, elements, ranks)
    first = rank * part if operation == "reduce_scatter" else 0
    total = torch.zeros(received, dtype=torch.int64)
    for other in range(ranks):
        total += handed_in(other, first, received, torch.int64)
    return total.to(dtype)


def inexact_reason(dtype_name: str, ranks: int) -> str | None:
    """Why sums of so many ranks can't be checked in a type: they are not exact; ``None`` where they can."""
    digits = {"float16": 11, "bfloat16": 8}.get(dtype_name)
    if digits is None or LARGEST_VALUE * ranks <= 2**digits:
        return None
    return f"sums over {ranks} ranks are not exact in {dtype_name}: --set collectives.check=false"
