"""``python -m harness`` in a process that is forked from one which has loaded the libraries already.

Starting Python, loading what the command line is written with and loading torch takes 4 s of CPU for each sweep, most
of it in the sweep's forkserver. One process for each process of pytest loads all of it once
(:mod:`tests.support.preloaded_server`), and every command is forked from it. Our own packages are not among what is
loaded: each command imports them from where its ``PYTHONPATH`` says, and from the copy that a sweep makes of itself.

What a test sees of such a command is what it sees of :class:`subprocess.Popen`, and what the process sees of itself is
what a new interpreter would see, with these exceptions: its parent is the preloaded process, ``/proc/PID/cmdline`` is
that of the preloaded process, libraries that it would not have loaded are loaded, and at its end their objects are not
freed. A test of how the harness starts, of a limit on its memory, or of the variables that Python and libraries read
when they are loaded needs a new interpreter: the fixture ``new_interpreter``. With ``SCALING_TEST_NEW_INTERPRETERS=1``
in the environment of pytest all commands get one: where a test fails with and without it, the harness is to blame.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

SERVER = Path(__file__).with_name("preloaded_server.py")
NOT_READ_WHEN_LOADED = re.compile(r"PYTHONPATH|PYTHONSAFEPATH|TMPDIR|HOME|XDG_CACHE_HOME|SCALING_\w+|PYTEST_\w+")
"""Variables that differ from those of the preloaded process without a library taking notice."""
ROOM_BYTES = 64 * 1024
"""What the environment of a command may take: it is written over that of the preloaded process, where others read
it (``/proc/PID/environ``)."""
ROOM_VARIABLE = "SCALING_TEST_ROOM"
SWITCH_VARIABLE = "SCALING_TEST_NEW_INTERPRETERS"
STATUS_BYTES = 4


class _Server:
    """The preloaded process of this process."""

    def __init__(self) -> None:
        self.environ = dict(os.environ)
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # It ends when the other end of the socket is closed, which this process does at its own end at the latest.
        self.socket = mine
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(SERVER), str(its.fileno())],
                env={**self.environ, ROOM_VARIABLE: "." * ROOM_BYTES},
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno(),
                pass_fds=[its.fileno()],
            )

    def can_run(self, env: Mapping[str, str]) -> bool:
        """Whether a new interpreter with these variables would be as the preloaded one is."""
        names = self.environ.keys() | env.keys()
        differing = (name for name in names if self.environ.get(name) != env.get(name))
        size = sum(len(os.fsencode(f"{name}={value}")) + 1 for name, value in env.items())
        return all(NOT_READ_WHEN_LOADED.fullmatch(name) for name in differing) and size < ROOM_BYTES

    def fork(self, arguments: Sequence[str], cwd: str, env: Mapping[str, str], streams: Sequence[int]) -> int:
        """Start a command; returns a pipe that tells its process id and, once it has ended, its wait status."""
        request = json.dumps({"arguments": list(arguments), "cwd": cwd, "env": dict(env)})
        reading, writing = os.pipe()
        try:
            socket.send_fds(self.socket, [request.encode()], [*streams, writing])
        finally:
            os.close(writing)
        return reading


@cache
def _server() -> _Server:
    return _Server()


class PreloadedHarness(subprocess.Popen):
    """``python -m harness ARGUMENTS``, forked from a preloaded process.

    Three methods of the standard library's class are replaced, by which it starts a process and asks for its end: all
    else (pipes, ``communicate``, time limits, signals) is its own.
    """

    def __init__(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._harness_arguments = arguments
        self._status = -1
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        super().__init__([sys.executable, "-m", "harness", *arguments], cwd=cwd, env=dict(env), text=True, **pipes)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *more) -> None:
        _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_ = more
        streams = [given if given >= 0 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self._status = _server().fork(self._harness_arguments, os.fspath(cwd), env, streams)
        self.pid = int.from_bytes(os.read(self._status, STATUS_BYTES), "little")
        assert self.pid, "the preloaded process has ended; its messages are on standard error"
        self._child_created = True
        for child_end, parent_end in ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread)):
            if child_end >= 0 and parent_end >= 0:
                os.close(child_end)

    def _internal_poll(self, _deadstate=None, **_functions) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                status = None if self._status < 0 else self._read_status(wait=False)
                if status is not None:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        status = self._read_status(wait=not wait_flags & os.WNOHANG)
        return (0, 0) if status is None else (self.pid, status)

    def _read_status(self, *, wait: bool) -> int | None:
        os.set_blocking(self._status, wait)
        try:
            told = os.read(self._status, STATUS_BYTES)
        except BlockingIOError:
            return None
        os.close(self._status)
        assert told, "the preloaded process has ended; its messages are on standard error"
        return int.from_bytes(told, "little")


def can_run_preloaded(env: Mapping[str, str]) -> bool:
    """Whether a command with these variables is the same in a preloaded process as in a new interpreter."""
    return not os.environ.get(SWITCH_VARIABLE) and _server().can_run(env)


def end_server() -> None:
    """End the preloaded process of this process, if there is one."""
    if _server.cache_info().currsize:
        server = _server()
        _server.cache_clear()
        server.socket.close()
        # It may still be loading, and has nothing to tidy.
        server.process.kill()
        server.process.wait()
