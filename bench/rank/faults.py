"""Things that go wrong on purpose, so that people can see what their own pipeline does then.

``kill`` and ``stop`` send the rank SIGKILL and SIGSTOP, ``raise`` raises, ``exit`` leaves without a word, ``oom`` runs
out of memory (its own limit, not the machine's), ``slow`` begins each backward pass late.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.case import Fault
from bench.plugins.workload import Work

INJECTED_EXIT_STATUS = 3
HEADROOM_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20


class InjectedFault(RuntimeError):
    """What ``raise`` raises."""


def inject_at_start(fault: Fault | None, rank: int) -> None:
    """Strike a rank before it joins the others, where that was asked for."""
    if fault is not None and fault.rank == rank and fault.step == 0:
        inject(fault)


def with_fault(fault: Fault | None, rank: int, work: Work, step: Callable[[], Any]) -> Callable[[], Any]:
    """The measured step with the fault in it; the step itself for every rank it does not touch."""
    if fault is None or fault.rank != rank or fault.step == 0:
        return step
    fault_step, taken = fault.step or 1, 0

    def step_with_fault() -> None:
        nonlocal taken
        taken += 1
        if taken == fault_step:
            inject(fault, work)
        step()

    return step_with_fault


def delay_from_start(fault: Fault | None, rank: int, work: Work) -> None:
    """Be late from the first step on, where no later step was named."""
    if fault is not None and fault.rank == rank and fault.kind == "slow" and not fault.step:
        inject(fault, work)


def inject(fault: Fault, work: Work | None = None) -> None:
    """Do it to this process, or to its work."""
    if fault.kind == "slow":
        if work is not None:
            work.injected_delay_s = (fault.ms or 0.0) / 1e3
        return
    print(f"injected: {fault.label}", file=sys.stderr, flush=True)
    if fault.kind in ("kill", "stop"):
        # Sent to this thread, which takes it at once; sent to the process, another thread may, and this one go on.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
    elif fault.kind == "raise":
        raise InjectedFault(f"injected by {fault.label}")
    elif fault.kind == "exit":
        os._exit(INJECTED_EXIT_STATUS)
    elif fault.kind == "oom":
        _exhaust_memory()


def _exhaust_memory() -> None:
    """Allocate until this process may have no more; the machine's other processes notice nothing."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM_BYTES, hard_limit))
    allocated = []
    while True:
        allocated.append(bytearray(CHUNK_BYTES))
