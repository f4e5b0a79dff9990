"""A command of the harness in a process of its own, for a program that waits for it.

The program may be a script, with or without ``if __name__ == "__main__"``, or a notebook: it is not imported by ranks,
none of its signals is handled, and any of its threads may wait.
"""

from __future__ import annotations

import locale
import math
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from harness.__main__ import SOURCE_ROOT

READERS_WAIT_S = 2.0
"""How long output is read after the end of the process: what it left running may keep its pipes open."""
POLL_S = 0.2
TERMINAL_VARIABLES = frozenset({"FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"})
"""They make programs write to a pipe as to a terminal. The kernel of a notebook sets some of them."""


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    output: str
    """Its standard output."""
    messages: tuple[str, ...]
    """The lines of its standard error."""


def run_command(arguments: Sequence[str], variables: Mapping[str, str], show: Callable[[str], None]) -> CommandEnd:
    """Run ``python -m harness …`` to its end.

    Args:
        arguments: The words of the command.
        variables: Further environment variables.
        show: Called with each line of its standard error, in this thread.

    Raises:
        KeyboardInterrupt: This process was interrupted. The command got one interrupt for each, and has ended.
        OSError: It can't be started.
    """
    reading, writing = os.pipe()
    try:
        # `-P`: the current folder may hold packages of the same names.
        command = [sys.executable, "-P", "-m", "harness.library", str(reading), *arguments]
        inherited = {name: text for name, text in os.environ.items() if name not in TERMINAL_VARIABLES}
        return run_process(command, {**inherited, **_import_path(), **variables}, show, (reading,))
    finally:
        os.close(reading)
        os.close(writing)


def _import_path() -> dict[str, str]:
    """``PYTHONPATH`` for a process to find the package, where this one found it by another way than installation."""
    root = str(SOURCE_ROOT)
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def run_process(
    command: Sequence[str], env: Mapping[str, str], show: Callable[[str], None], descriptors: Sequence[int] = ()
) -> CommandEnd:
    """Run any command to its end, as :func:`run_command` does; ``descriptors``: further ones that it inherits."""
    # A group of its own: what a terminal sends to this process reaches it once, from here.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        process_group=0,
        env=env,
    )
    output: list[bytes] = []
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    messages: list[str] = []
    interrupted = False
    with _ended(process):
        readers = [
            threading.Thread(target=_read_all, args=(process.stdout, output), daemon=True),
            threading.Thread(target=_read_lines, args=(process.stderr, lines), daemon=True),
        ]
        for reader in readers:
            reader.start()
        while True:
            try:
                for line in _lines_until_end(process, readers, lines):
                    messages.append(line)
                    show(line)
                break
            except KeyboardInterrupt:
                interrupted = True
                process.send_signal(signal.SIGINT)  # nothing, where it has ended
    if interrupted:
        raise KeyboardInterrupt
    return CommandEnd(process.returncode, b"".join(output).decode(), tuple(messages))


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A context after which the process has ended, whatever was raised inside."""
    try:
        yield
    finally:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(KeyboardInterrupt):
                process.wait()


def _lines_until_end(
    process: subprocess.Popen[bytes], readers: Sequence[threading.Thread], lines: queue.SimpleQueue[str]
) -> Iterator[str]:
    """The lines as they come, until the process has ended and its output is read."""
    deadline_s = math.inf
    while True:
        # Before the queue is looked at: a line may come between the two.
        read = not any(reader.is_alive() for reader in readers)
        if process.poll() is not None:
            deadline_s = min(deadline_s, time.monotonic() + READERS_WAIT_S)
        try:
            yield lines.get(timeout=POLL_S)
        except queue.Empty:
            if read or time.monotonic() > deadline_s:
                process.wait()
                return


def _read_all(pipe: IO[bytes], output: list[bytes]) -> None:
    with pipe:
        output.extend(iter(lambda: os.read(pipe.fileno(), 2**16), b""))


def _read_lines(pipe: IO[bytes], lines: queue.SimpleQueue[str]) -> None:
    encoding = locale.getpreferredencoding(False)
    with pipe:
        for line in pipe:
            lines.put(line.decode(encoding, "replace").rstrip("\r\n"))
