"""Horovod with many ranks on a machine, whose compute is emulated: waits take no cores, and fewer connections are made.

Such a rank stands for one that has cores of its own. In Horovod 0.28.1 a rank that waits for an exchange calls
``sched_yield`` without end (``WaitAndClear`` in ``torch/mpi_ops_v2.cc``): on a machine with fewer cores than ranks it
takes them from the ranks that it waits for. Here it sleeps between looks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.core.case import Case
from bench.core.rank_info import RankInfo

LOOK_INTERVAL_S = 50e-6
"""Between two looks of the ranks of a machine together, in seconds: some 15 % of one core are spent on looking."""
LARGEST_HOST = 8
"""Ranks on a machine beyond which Horovod is told of several hosts."""


def look_interval_s(case: Case, me: RankInfo) -> float | None:
    """How long this rank sleeps between two looks for an exchange, in seconds (pure); ``None``: Horovod's own wait."""
    return LOOK_INTERVAL_S * me.local_world if "emulated_compute" in case.flags else None


def split_host(case: Case, me: RankInfo) -> RankInfo:
    """This rank as Horovod numbers it (pure): of many emulated ranks on a machine, a few are a host.

    Horovod connects each rank to each other one twice, beside that the ranks of a host to each other twice, and those
    of one number on all hosts. It asks the rendezvous for addresses 2.5 times for each of these connections. Hosts
    matter for nothing else here: its hierarchical operations are off.
    """
    if "emulated_compute" not in case.flags or case.net is not None or me.local_world <= LARGEST_HOST:
        return me
    ranks_per_host = max(size for size in range(1, math.isqrt(me.local_world) + 1) if me.local_world % size == 0)
    return replace(me, local_rank=me.local_rank % ranks_per_host, local_world=ranks_per_host)


@contextmanager
def sleeping_waits(interval_s: float | None) -> Iterator[None]:
    """Inside, each wait for an exchange of Horovod's sleeps until that is done.

    Args:
        interval_s: The time between two looks, in seconds; ``None``: Horovod waits in its own way.
    """
    if interval_s is None:
        yield
        return
    from horovod.torch.mpi_ops import mpi_lib

    is_done, own_wait = mpi_lib.horovod_torch_poll, mpi_lib.horovod_torch_wait_and_clear

    def wait_and_clear(handle: int) -> None:
        while not is_done(handle):
            time.sleep(interval_s)
        own_wait(handle)

    mpi_lib.horovod_torch_wait_and_clear = wait_and_clear
    try:
        yield
    finally:
        mpi_lib.horovod_torch_wait_and_clear = own_wait
