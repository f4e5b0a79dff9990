"""Python programs in processes that are forked where the modules of ``python -m harness`` are loaded already.

Starting Python and loading them takes 0.4 to 0.9 s of CPU, and most of the time of a short command. What is forked is a
process of its own, with the given folder, environment and standard streams; it runs the program from its first line,
and ends as Python ends. What differs from a real start: modules are loaded before, in the environment of the tests, so
nothing is seen of when and from where one is loaded, and variables that are read at the start (``PYTHON…``, ``LD_…``)
come too late; its parent is another process than the test's. Tests of those start a real process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

from bench.host.processes import die_with_parent
from tests.support.paths import ROOT

MODULES = (
    *("harness.cli.app", "harness.cli.check", "harness.cli.fit", "harness.cli.inventory", "harness.cli.report"),
    *("harness.cli.stores", "harness.cli.sweep", "harness.check.checks", "harness.publish.export", "rich.table"),
    *(
        "harness.sweep.pipeline",
        "reports.page.html",
        "scipy.optimize",
        "sqlalchemy.dialects.sqlite",
        "typer.rich_utils",
    ),
)
FORKED_ELSEWHERE = "tests.forked_elsewhere"
"""The audit event of a process that another one than this forks: Python reports this one's alone."""
LIMIT_S = 120.0
MAX_REQUEST_BYTES = 2**17
STREAMS = 3


def run_python(
    words: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE …`` or ``python -c PROGRAM …`` to its end, without input.

    Args:
        words: The arguments of Python.
        folder: Where it runs.
        env: Its environment on top of that of this process. Our packages are found in any case.
        stdout: A descriptor that takes its output; ``None``: it is in what is returned.
        stderr: Likewise of its error output.

    Raises:
        TimeoutError: Where it does not end within two minutes; it is killed then.
    """
    sys.audit(FORKED_ELSEWHERE)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, Path(os.devnull).open() as nothing:
        streams = [nothing.fileno(), output.fileno() if stdout is None else stdout]
        streams.append(errors.fileno() if stderr is None else stderr)
        request = [list(words), str(folder), {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}]
        status = _parent().run(json.dumps(request).encode(), streams)
        return subprocess.CompletedProcess(list(words), status, _text_of(output), _text_of(errors))


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Parent:
    """The process that forks, one program at a time. It ends with this one, which holds its socket."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())]
        # One thread: a process with several can't be forked safely.
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket.settimeout(LIMIT_S)

    def run(self, request: bytes, streams: list[int]) -> int:
        try:
            socket.send_fds(self._socket, [request], streams)
            answer = self._socket.recv(MAX_REQUEST_BYTES)
        except TimeoutError:
            self.end()
            raise
        if not answer:
            raise RuntimeError(f"the process that forks ended with {self._process.wait()}")
        return int(answer)

    def end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        _parent.cache_clear()


@cache
def _parent() -> _Parent:
    return _Parent()


def serve(channel: socket.socket) -> None:
    """Fork a process for each request; what it returns from, or raises, is the program's."""
    while True:
        request, streams, _, _ = socket.recv_fds(channel, MAX_REQUEST_BYTES, STREAMS)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become(*json.loads(request), streams)
        for descriptor in streams:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(words: list[str], folder: str, env: dict[str, str], streams: list[int]) -> NoReturn:
    """Run a program in place of this process."""
    die_with_parent()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # it may be another one there
    sys.path[0] = ""
    # Python's own streams: the encoding, and when they are written, depend on what they are.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1 if os.isatty(number) or number == 2 else -1, closefd=False, **rules)  # noqa: SIM115
        for number, mode, rules in ((0, "r", {}), (1, "w", {}), (2, "w", {"errors": "backslashreplace"}))
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.orig_argv = [sys.executable, *words]
    kind, program, *arguments = words
    if kind == "-m":
        sys.argv = [program, *arguments]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(program, "<string>", "exec"), main.__dict__)
    sys.exit()


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    # It reads its environment when it is imported, which is to be that of the program.
    sys.modules.pop("harness.defects", None)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
