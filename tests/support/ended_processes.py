"""Whether a process has ended that is no child of the test's."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

from bench.host.process_tree import is_alive

PAUSE_S = 0.02


def ends_within(pid: int, limit_s: float) -> bool:
    """Wait until a process ends, for so many seconds at most.

    A process that has run trials adopts what its descendants leave behind, so that an orphan may stay as a zombie of
    the test's own process: that has ended too.
    """
    deadline = time.monotonic() + limit_s
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while is_alive(process):
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
    return True
