"""How ranks pause the sampler of their node, or make it sample more often, while the overhead of sampling is measured.

They do so by the lock of a file, and by the number in it.

The kernel ends a pause if the process that requested it dies. Some shared file systems have no locks: there the sampler
samples on, and a pause fails.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PAUSE_TIMEOUT_S = 2.0
"""How long a sample may take. A sampler that hangs must not stop the ranks."""
POLL_INTERVAL_S = 0.001
NUMBER_BYTES = 4


@contextmanager
def pause_sampling(out: Path, node: int = 0) -> Iterator[None]:
    """A context in which the sampler of a node takes no samples.

    Raises:
        TimeoutError: If the sampler does not come to the end of a sample.
        OSError: If the file system has no locks.
    """
    deadline_s = time.monotonic() + PAUSE_TIMEOUT_S
    with pause_lock(out, node).open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no answer within {PAUSE_TIMEOUT_S:g} s") from None
            time.sleep(POLL_INTERVAL_S)
        yield


@contextmanager
def not_paused(lock: TextIO) -> Iterator[None]:
    """A context in which nobody can pause the sampler; raises ``BlockingIOError`` in a pause. Where the file system has
    no locks there are no pauses."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def hasten_sampling(out: Path, node: int, times: int) -> Iterator[None]:
    """A context in which the sampler of a node ticks so many times as often, from its next tick on.

    Raises:
        OSError: If the request can't be written.
    """
    path = pause_lock(out, node)
    path.write_bytes(times.to_bytes(NUMBER_BYTES, "big"))
    try:
        yield
    finally:
        os.truncate(path, 0)


def requested_times(lock: TextIO) -> int:
    """How many times as often as usual the sampler is to tick: 1, unless :func:`hasten_sampling` is in use."""
    return max(1, int.from_bytes(os.pread(lock.fileno(), NUMBER_BYTES, 0), "big"))


def open_lock(out: Path, node: int = 0) -> TextIO:
    """The open :func:`pause_lock`, as the sampler uses it."""
    return pause_lock(out, node).open("a+")


def pause_lock(out: Path, node: int = 0) -> Path:
    """The file whose lock pauses the sampler of a node. Nodes may share the folder."""
    return out / f"sampling-{node}.lock"
