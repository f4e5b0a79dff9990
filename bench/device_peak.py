"""What the device of this rank can do at most: a float32 matrix product and a copy, by all ranks at the same time.

The ranks of a node share its memory and its clocks, so a rank's peak is what it gets while the others try as well. Best
of a few, as STREAM does (McCalpin 1995, https://www.cs.virginia.edu/stream/); products and copies take turns, so that
neither falls whole into one busy moment of the machine. TensorFloat-32 is off in every rank, so the product is one
of float32 on a GPU too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bench.backends import Session
from bench.clock import time_steps
from bench.roofline import DevicePeak

ROUNDS = 8
PRODUCTS_PER_ROUND = 2
MIN_PRODUCT_S = 2e-3
SIDE_RANGE = (512, 16_384)
COPY_MIB = {"cpu": 64, "cuda": 512}
NO_MEMORY_FOR_PEAK = "no room on the device for the operands that measure its peak"


def measure_peak(session: Session) -> DevicePeak | None:
    """Takes about 0.3 s on a CPU. ``None`` where a rank's device has no room for the operands."""
    mebibytes = COPY_MIB[session.device.split(":")[0]]
    copy, min_side = _prepare_copy(session.device, mebibytes * 2**20)
    side = session.largest(min_side)
    if copy is None or side == math.inf:
        return None
    product = _product(int(side), session.device)
    products: list[float] = []
    copies: list[float] = []
    for _ in range(ROUNDS):
        session.barrier()
        # The first product of a turn finds the caches as the copy left them.
        products += time_steps(product, PRODUCTS_PER_ROUND, session.device)
        session.barrier()
        copies += time_steps(copy, 1, session.device)
    return DevicePeak(
        flop_s=2 * side**3 / min(products),
        bytes_s=2 * mebibytes * 2**20 / min(copies),
        how=f"float32 product of {side:.0f}×{side:.0f} matrices, copy of {mebibytes} MiB, best of {len(products)} and "
        f"{len(copies)}, all ranks at once",
    )


def _prepare_copy(device: str, size: int) -> tuple[Callable[[], Any] | None, float]:
    """The copy of ``size`` bytes, and the side of matrices whose product takes long enough; endless without room."""
    import torch

    try:
        source = torch.ones(size // 4, device=device)
        target = torch.ones_like(source)
        return lambda: target.copy_(source), _smallest_timeable_side(device)
    # On CUDA it is torch.OutOfMemoryError, which is one of these; on a CPU it is a plain one.
    except RuntimeError:
        return None, math.inf


def _smallest_timeable_side(device: str) -> float:
    """The side of the smallest square matrices, by doubling, whose product can be timed well."""
    side, largest = SIDE_RANGE
    while side < largest and min(time_steps(_product(side, device), 2, device)) < MIN_PRODUCT_S:
        side *= 2
    return float(side)


def _product(side: int, device: str) -> Callable[[], Any]:
    import torch

    left, right, output = (torch.ones(side, side, device=device) for _ in range(3))
    return lambda: torch.mm(left, right, out=output)
