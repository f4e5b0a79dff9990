"""How ranks pause the sampler of their node, while the overhead of sampling is measured: by the lock of a file.

The kernel ends a pause if the process that requested it dies. Some shared file systems have no locks: there the sampler
samples on, and a pause fails.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PAUSE_TIMEOUT_S = 2.0
"""How long a sample may take. A sampler that hangs must not stop the ranks."""
POLL_INTERVAL_S = 0.001


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


def pause_lock(out: Path, node: int = 0) -> Path:
    """The file whose lock pauses the sampler of a node. Nodes may share the folder."""
    return out / f"sampling-{node}.lock"
