"""Horovod with many ranks on a machine, whose compute is emulated: waits take no cores, and fewer connections are made.

Such a rank stands for one that has cores of its own. In Horovod 0.28.1 a rank that waits for an exchange calls
``sched_yield`` without end (``WaitAndClear`` in ``torch/mpi_ops_v2.cc``): on a machine with fewer cores than ranks it
takes them from the ranks that it waits for. Here it sleeps between looks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bench.backends.horovod_settings import HOROVOD_DEFAULT, HorovodOptions, tunables
from bench.core.case import Case
from bench.core.rank_info import RankInfo

LOOK_INTERVAL_S = 50e-6
"""Between two looks of the ranks of a machine together, in seconds: some 15 % of one core are spent on looking."""
LATENESS = 0.05
"""Of a long wait: the next look is after this share of the time that the wait has taken."""
LARGEST_HOST = 8
"""Emulated ranks on a machine beyond which Horovod is told of several hosts, and exchanges less often."""
CYCLE_MS_PER_RANK = 0.5
"""A cycle of Horovod's is an exchange among all ranks, also where no gradient is ready."""


def look_interval_s(case: Case, me: RankInfo) -> float | None:
    """How long this rank sleeps between two looks for an exchange, in seconds (pure); ``None``: Horovod's own wait."""
    return LOOK_INTERVAL_S * me.local_world if "emulated_compute" in case.flags else None


def has_many_ranks(case: Case, me: RankInfo) -> bool:
    """Whether many ranks on a machine emulate their compute (pure)."""
    return "emulated_compute" in case.flags and me.local_world > LARGEST_HOST


def split_host(case: Case, me: RankInfo) -> RankInfo:
    """This rank as Horovod numbers it (pure): of many emulated ranks on a machine, a few are a host.

    Horovod connects each rank to each other one twice, beside that the ranks of a host to each other twice, and those
    of one number on all hosts. It asks the rendezvous for addresses 2.5 times for each of these connections. Hosts
    matter for nothing else here: its hierarchical operations are off.
    """
    if not has_many_ranks(case, me) or case.net is not None:
        return me
    ranks_per_host = max(size for size in range(1, math.isqrt(me.local_world) + 1) if me.local_world % size == 0)
    return replace(me, local_rank=me.local_rank % ranks_per_host, local_world=ranks_per_host)


def with_longer_cycles(options: HorovodOptions, case: Case, me: RankInfo, env: Mapping[str, str]) -> HorovodOptions:
    """The options of a rank (pure): many emulated ranks on a machine exchange less often, unless it is said how often.

    Args:
        options: Those that were given.
        case: The case to measure.
        me: This rank.
        env: The environment variables that it inherited.
    """
    _, source = tunables(options)["cycle_time_ms"].in_force(env)
    if source != HOROVOD_DEFAULT or not has_many_ranks(case, me):
        return options
    return options.model_copy(update={"cycle_time_ms": CYCLE_MS_PER_RANK * me.local_world})


@contextmanager
def sleeping_waits(interval_s: float | None) -> Iterator[None]:
    """Inside, each wait for an exchange of Horovod's sleeps until that is done.

    Args:
        interval_s: The time between two looks, in seconds, longer in a long wait; ``None``: Horovod's own wait.
    """
    if interval_s is None:
        yield
        return
    from horovod.torch.mpi_ops import mpi_lib

    is_done, own_wait = mpi_lib.horovod_torch_poll, mpi_lib.horovod_torch_wait_and_clear

    def wait_and_clear(handle: int) -> None:
        began_s = time.monotonic()
        while not is_done(handle):
            time.sleep(max(interval_s, LATENESS * (time.monotonic() - began_s)))
        own_wait(handle)

    mpi_lib.horovod_torch_wait_and_clear = wait_and_clear
    try:
        yield
    finally:
        mpi_lib.horovod_torch_wait_and_clear = own_wait
