"""The processes that an agent has started for the roles of a trial, and how observers among them are ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.core.case import Role
from bench.host.processes import EXIT_GRACE_S, describe_status, process_state


@dataclass(frozen=True)
class WorkerProcess:
    """A process of a role that was started. A launcher (mpirun, torchrun) stands for all ranks that it starts here."""

    role: Role
    number: int
    process: BaseProcess
    log: Path
    launcher: str | None = None
    """The name of the launcher that the process is; ``None``: it is no launcher."""

    @property
    def title(self) -> str:
        """``rank 1``."""
        return f"{self.role.name} {self.number}"


def wait_for_exit(
    workers: Sequence[WorkerProcess], seconds: float, note_ends: Callable[[], None] = lambda: None
) -> None:
    """Wait until all of them have ended, at most for some seconds.

    Args:
        workers: The processes.
        seconds: How long.
        note_ends: Called when one may have ended.
    """
    deadline, left = time.monotonic() + seconds, list(workers)
    while left and (left_s := deadline - time.monotonic()) > 0:
        wait_for_any([worker.process.sentinel for worker in left], timeout=left_s)
        note_ends()
        left = [worker for worker in left if worker.process.is_alive()]


def stop_observers(observers: Sequence[WorkerProcess]) -> dict[int, str]:
    """Ask observers to end; returns what had become of those that did not observe to the end, by their number."""
    running = [worker for worker in observers if worker.process.is_alive()]
    stopped = [worker for worker in running if process_state(worker.process.pid or 0) == "stopped"]
    for worker in running:
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid or 0, signal.SIGTERM)
            os.kill(worker.process.pid or 0, signal.SIGCONT)
    wait_for_exit(running, EXIT_GRACE_S)
    lost = {}
    for worker in observers:
        if worker not in running:
            lost[worker.number] = f"it {describe_status(worker.process.exitcode)} before the ranks ended"
        elif worker in stopped:
            lost[worker.number] = "it was stopped by a signal"
        elif worker.process.is_alive():
            lost[worker.number] = "it did not end when it was asked to"
    return lost
