"""Which cores a rank may use: as many as it has threads, whatever the rank count, so that a curve compares alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def cores_of_rank(local_rank: int, threads: int, usable: Sequence[int]) -> tuple[int, ...]:
    """The cores of a rank on its host (pure): the next ``threads`` after the ranks before it, from the start again
    where there are more ranks than cores. More threads than cores get all of them."""
    first = local_rank * threads
    return tuple(sorted({usable[(first + number) % len(usable)] for number in range(min(threads, len(usable)))}))


def usable_cores() -> tuple[int, ...]:
    """The cores this process may run on; none where the system has no such notion."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def pin_threads(cores: Sequence[int]) -> None:
    """Put every thread of this process, and those it starts later, onto ``cores``."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        # A thread may end while the others are being moved.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)
