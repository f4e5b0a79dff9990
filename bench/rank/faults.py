"""Injects faults into a rank, to show how a pipeline reacts to them.

``kill`` and ``stop`` send the rank SIGKILL and SIGSTOP, ``raise`` raises an exception, ``exit`` exits without reporting
an error, ``oom`` exhausts memory (up to a limit of the process, not of the machine), ``slow`` delays each backward
pass.
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
    """The exception of the fault ``raise``."""


def inject_at_start(fault: Fault | None, rank: int) -> None:
    """Inject a fault of step 0, before the rank joins the others."""
    if fault is not None and fault.rank == rank and fault.step == 0:
        inject(fault)


def with_fault(fault: Fault | None, rank: int, work: Work, step: Callable[[], Any]) -> Callable[[], Any]:
    """The measured step with a fault in it; the step itself on ranks without one.

    Args:
        fault: The fault of the case.
        rank: The number of this rank.
        work: The work of this rank, which ``slow`` delays.
        step: Takes one measured step.
    """
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
    """Delay the work from the first step on, where the fault ``slow`` names no later step."""
    if fault is not None and fault.rank == rank and fault.kind == "slow" and not fault.step:
        inject(fault, work)


def inject(fault: Fault, work: Work | None = None) -> None:
    """Inject a fault into this process, or into its work."""
    if fault.kind == "slow":
        if work is not None:
            work.injected_delay_s = (fault.ms or 0.0) / 1e3
        return
    print(f"injected: {fault.label}", file=sys.stderr, flush=True)
    if fault.kind in ("kill", "stop"):
        # Sent to this thread, which receives it at once; of a process, another thread might, and this one go on.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
    elif fault.kind == "raise":
        raise InjectedFault(f"injected by {fault.label}")
    elif fault.kind == "exit":
        os._exit(INJECTED_EXIT_STATUS)
    elif fault.kind == "oom":
        _exhaust_memory()


def _exhaust_memory() -> None:
    """Allocate memory until a limit of this process is reached, without effect on other processes."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM_BYTES, hard_limit))
    allocated = []
    while True:
        allocated.append(bytearray(CHUNK_BYTES))
