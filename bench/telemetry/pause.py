"""How ranks pause the sampler of their node, or make it sample more often, while the overhead of sampling is measured.

They do so by the lock of a file, and by the number in it. A byte in a named pipe has the sampler look at the number at
once; else it does so at its next tick.

The kernel ends a pause if the process that requested it dies. Some shared file systems have no locks: there the sampler
samples on, and a pause fails.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

PAUSE_TIMEOUT_S = 2.0
"""How long a sample may take. A sampler that hangs must not stop the ranks."""
POLL_INTERVAL_S = 0.001
NUMBER_BYTES = 4
WAKE = b"\n"


@contextmanager
def pause_sampling(out: Path, node: int = 0, timeout_s: float = PAUSE_TIMEOUT_S) -> Iterator[None]:
    """A context in which the sampler of a node takes no samples.

    Args:
        out: The folder of the sampler's files.
        node: The node.
        timeout_s: How long a sample that is being taken is waited for.

    Raises:
        TimeoutError: If the sampler does not come to the end of a sample.
        OSError: If the file system has no locks.
    """
    deadline_s = time.monotonic() + timeout_s
    with pause_lock(out, node).open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no answer within {timeout_s:g} s") from None
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
def hasten_sampling(out: Path, node: int, times: int) -> Iterator[bool]:
    """A context in which the sampler of a node ticks so many times as often. Its value says whether the sampler was
    woken and does so at once; else it does from its next tick on.

    Raises:
        OSError: If the request can't be written.
    """
    path = pause_lock(out, node)
    path.write_bytes(times.to_bytes(NUMBER_BYTES, "big"))
    try:
        yield _wake(_wake_pipe(out, node))
    finally:
        os.truncate(path, 0)


def _wake(pipe: Path) -> bool:
    """Whether somebody reads the pipe: there may be none, or no sampler."""
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.write(descriptor, WAKE) > 0
        finally:
            os.close(descriptor)
    return False


class Alarm:
    """What a sampler waits for: its end, or a request to look up."""

    def __init__(self) -> None:
        self._rings, self._ended = threading.Event(), False

    def set(self) -> None:
        """The sampler has to end."""
        self._ended = True
        self._rings.set()

    def is_set(self) -> bool:
        return self._ended

    def wait(self, timeout: float, /) -> bool:
        """Wait for so many seconds at most; whether something came before."""
        rings = self._rings.wait(timeout)
        self._rings.clear()
        return rings

    def watch(self, out: Path, node: int = 0) -> None:
        """Look up at the requests of ranks from now on, by a thread of this process; where named pipes can't be made
        there are none."""
        pipe = _wake_pipe(out, node)
        with suppress(OSError):
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe, 0o600)
            # For writing too: else each writer that leaves would be the end of the file.
            descriptor = os.open(pipe, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            threading.Thread(target=self._read, args=(descriptor,), name="sampling-requests", daemon=True).start()

    def _read(self, descriptor: int) -> None:
        while os.read(descriptor, len(WAKE)):
            self._rings.set()


def requested_times(lock: TextIO) -> int:
    """How many times as often as usual the sampler is to tick: 1, unless :func:`hasten_sampling` is in use."""
    return max(1, int.from_bytes(os.pread(lock.fileno(), NUMBER_BYTES, 0), "big"))


def open_lock(out: Path, node: int = 0) -> TextIO:
    """The open :func:`pause_lock`, as the sampler uses it."""
    return pause_lock(out, node).open("a+")


def pause_lock(out: Path, node: int = 0) -> Path:
    """The file whose lock pauses the sampler of a node. Nodes may share the folder."""
    return out / f"sampling-{node}.lock"


def _wake_pipe(out: Path, node: int) -> Path:
    return out / f"sampling-{node}.pipe"
