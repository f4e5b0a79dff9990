"""Runs a command of this machine to its end, within limits of time and of output."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bench.host.bounded import MAX_OUTPUT_BYTES, READ_BYTES, Excerpt
from bench.host.processes import kill_session

READER_LIMIT_S = 2.0
"""How long the output may stay open once a command has ended: a process that it has left behind may hold it."""


class CommandTimeout(Exception):
    """A command did not end in time, and was killed.

    Args:
        command: Its argument list.
        timeout_s: Its time limit.
        stdout: What was kept of its output.
        stderr: What was kept of its error output.
    """

    def __init__(self, command: Sequence[str], timeout_s: float, stdout: str, stderr: str) -> None:
        super().__init__(f"{command[0]} did not answer within {timeout_s:g} s")
        self.stdout, self.stderr = stdout, stderr


def run_command(
    command: Sequence[str],
    timeout_s: float,
    *,
    text: str = "",
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    max_bytes: int = MAX_OUTPUT_BYTES,
    errors: str = "replace",
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own: Ctrl-C does not reach it while it cleans up.

    :func:`subprocess.run` keeps all that a command writes, and after its time limit waits without one for processes
    that hold its output open.

    Args:
        command: The argument list.
        timeout_s: After so many seconds it is killed, with all processes of its session.
        text: Its standard input.
        env: Its environment; ``None``: this process's.
        folder: Where it runs; ``None``: where this process does.
        max_bytes: What is kept of its output, and of its error output: the beginning and the end.
        errors: How bytes that are no text are decoded, as :meth:`bytes.decode` takes it.

    Returns:
        Its status, and what was kept of its outputs.

    Raises:
        CommandTimeout: If it did not end in time.
        OSError: If it can't be started.
    """
    process = subprocess.Popen(
        command,
        env=None if env is None else dict(env),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = [(process.stdout, Excerpt(max_bytes)), (process.stderr, Excerpt(max_bytes))]
    # Threads of their own: a command that neither reads nor writes must not keep this process waiting.
    helpers = [threading.Thread(target=_read, args=pair, daemon=True) for pair in outputs]
    helpers.append(threading.Thread(target=_write, args=(process.stdin, text.encode()), daemon=True))
    for helper in helpers:
        helper.start()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        kill_session(process.pid)
        process.wait()
        output, error_output = _outputs(helpers, outputs, errors)
        raise CommandTimeout(command, timeout_s, output, error_output) from None
    except BaseException:
        kill_session(process.pid)
        raise
    return subprocess.CompletedProcess(command, process.returncode, *_outputs(helpers, outputs, errors))


def _outputs(
    helpers: Sequence[threading.Thread], outputs: Sequence[tuple[IO[bytes], Excerpt]], errors: str
) -> list[str]:
    deadline = time.monotonic() + READER_LIMIT_S
    for helper in helpers:
        helper.join(max(0.0, deadline - time.monotonic()))
    return [excerpt.decode(errors) for _, excerpt in outputs]


def _read(stream: IO[bytes], excerpt: Excerpt) -> None:
    with suppress(OSError, ValueError), stream:
        while piece := os.read(stream.fileno(), READ_BYTES):
            excerpt.add(piece)


def _write(stream: IO[bytes], text: bytes) -> None:
    with suppress(OSError, ValueError), stream:
        stream.write(text)
