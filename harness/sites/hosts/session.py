"""One command on another machine, through ssh: what goes in, what comes back, how it ends.

The far side listens to its standard input for as long as it runs. When this process dies, however that happens, the
kernel closes the pipe, ssh passes that on, and the far side ends what it started.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.node.transfer import TransferError
from harness.sites.hosts.hosts_file import Host

END_LINE = "end\n"
READER_JOIN_S = 3.0
TAIL_LINES = 40


class SshSession:
    """A running ssh. ``take``: takes each line of standard output, and says whether it was meant for it; the others are
    kept in ``log``, as is what the far side says on standard error. ``ended``: is told when it has ended."""

    def __init__(
        self,
        host: Host,
        command: Sequence[str],
        log: Path,
        *,
        first_message: Any,
        take: Callable[[str], bool],
        ended: Callable[[SshSession], None],
    ) -> None:
        self.host, self.log, self.problem = host, log, ""
        self.was_disconnected = False
        self._on_line, self._on_end = take, ended
        # A session of its own: Ctrl-C is for the harness, which ends this in order.
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        self._send(json.dumps(first_message) + "\n")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("a") as log:
            for line in self.process.stdout:
                try:
                    taken = self._on_line(line)
                except TransferError as problem:
                    self.problem, taken = str(problem), True
                if not taken:
                    log.write(line)
        self.process.wait()
        self._on_end(self)

    def _send(self, text: str) -> None:
        assert self.process.stdin is not None
        # ssh that has ended says why by its status and its own words.
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(text)
            self.process.stdin.flush()

    @property
    def title(self) -> str:
        return self.log.stem

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def status(self) -> int:
        """As Python gives it; 255 is ssh's own."""
        return self.process.returncode

    def request_end(self) -> None:
        """Ask for an orderly end."""
        self._send(END_LINE)

    def disconnect(self) -> None:
        """Close the pipe: the far side ends everything at once. ``was_disconnected``: it had not ended before."""
        self.was_disconnected = self.was_disconnected or not self.ended
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self, deadline: float) -> None:
        """Wait for the end until ``deadline`` of :func:`time.monotonic`, then end ssh itself."""
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(READER_JOIN_S)

    def output_tail(self) -> list[str]:
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return []
