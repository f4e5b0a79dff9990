"""One command on another machine, through ssh: its input, its output and its end.

The command reads its standard input for as long as it runs. When this process dies, in whatever way, the kernel closes
the pipe, ssh passes that on, and the command ends what it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.host.bounded import READ_BYTES, bounded_lines
from bench.host.logs import last_lines
from bench.host.processes import process_state
from bench.node.transfer import TransferError, max_line_bytes
from harness.sites.hosts.hosts_file import Host

END_LINE = "end\n"
READER_JOIN_S = 3.0
TAIL_LINES = 40


class SshSession:
    """A running ssh.

    Args:
        host: Where the command runs.
        command: The argument list of ssh.
        log: The file for the command's standard error, and for those lines of its standard output that ``take`` leaves.
        messages: Sent to the command's standard input, each as one line of JSON.
        take: Called with each line of standard output; returns whether it has used the line.
        ended: Called when ssh has ended.
    """

    def __init__(
        self,
        host: Host,
        command: Sequence[str],
        log: Path,
        *,
        messages: Sequence[Any],
        take: Callable[[str], bool],
        ended: Callable[[SshSession], None],
    ) -> None:
        self.host, self.log, self.problem = host, log, ""
        self.was_disconnected = False
        self._on_line, self._on_end = take, ended
        # In a session of its own: the harness handles Ctrl-C and ends ssh in order.
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._outgoing: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()
        self._send("".join(f"{json.dumps(message)}\n" for message in messages))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        pieces = iter(lambda: os.read(descriptor, READ_BYTES), b"")
        with self.process.stdout, self.log.open("a") as log:
            for line in bounded_lines(pieces, max_line_bytes):
                try:
                    taken = self._on_line(line)
                except TransferError as problem:
                    self.problem, taken = str(problem), True
                if not taken:
                    log.write(f"{line}\n")
        self.process.wait()
        self._on_end(self)

    def _write(self) -> None:
        """Send what is queued: an ssh that is stopped does not read, and must keep nobody else waiting."""
        assert self.process.stdin is not None
        # Where ssh has ended, its status and its output say why.
        with contextlib.suppress(OSError), self.process.stdin:
            while (text := self._outgoing.get()) is not None:
                left = memoryview(text.encode())
                while left:
                    left = left[self.process.stdin.write(left) or 0 :]

    def send(self, message: Any) -> None:
        """Send a message to the command's standard input, as one line of JSON."""
        self._send(f"{json.dumps(message)}\n")

    def _send(self, text: str) -> None:
        self._outgoing.put(text)

    @property
    def title(self) -> str:
        """The name of its log, without the suffix."""
        return self.log.stem

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped ssh, so that it passes nothing on."""
        return process_state(self.process.pid) == "stopped"

    @property
    def status(self) -> int:
        """The command's exit status; below 0 for a signal, 255 where ssh itself failed."""
        return self.process.returncode

    def request_end(self) -> None:
        """Ask the command to end in order: to report, and to transfer its files."""
        self._send(END_LINE)

    def disconnect(self) -> None:
        """Close the pipe, on which the command ends at once. Sets ``was_disconnected`` where it still ran."""
        self.was_disconnected = self.was_disconnected or not self.ended
        self._outgoing.put(None)

    def close(self, deadline: float) -> None:
        """Wait for the end until ``deadline`` of :func:`time.monotonic`, then kill ssh."""
        self._outgoing.put(None)
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(READER_JOIN_S)
        if not self._reader.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()

    def output_tail(self) -> list[str]:
        """The last lines of the log."""
        return last_lines(self.log, TAIL_LINES)
