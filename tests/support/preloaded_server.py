"""The process that :mod:`tests.support.preloaded` forks commands from: ``python -P preloaded_server.py SOCKET``.

It loads libraries, runs nothing of them, and has one thread. Each message that comes by the socket becomes a child,
which makes of itself what ``python -P -m harness`` would be after its start. Two calls by which such a process makes a
new interpreter are served in the same way, both at the boundary of the standard library:

* ``os.execve``, by which a sweep runs from a copy of its sources: the program is begun again in the same process.
* The start of multiprocessing's forkserver: it is forked, and finds torch loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import logging
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import runpy
import selectors
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import types
import warnings
from collections.abc import Sequence
from multiprocessing import process
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

COMMAND_LINE = ("jinja2", "numpy", "psutil", "pydantic", "rich.progress", "rich.table", "sqlalchemy",
                "sqlalchemy.dialects.sqlite", "sqlite3", "tomllib", "typer")  # fmt: skip
FRAMEWORKS = ("torch", "torch.distributed", "torch.nn.parallel", "torch.optim", "torch._dynamo", "horovod.torch",
              "dask", "distributed")  # fmt: skip
FORKSERVER = "from multiprocessing.forkserver import main; "
PRELOAD_VARIABLE = "SCALING_PRELOAD"
"""What the harness's forkserver loads. One that does not load torch must not have it."""
HANDLED_ANEW = ("PYTHONPATH", "PYTHONSAFEPATH", "TMPDIR")
MAX_MESSAGE_BYTES = 2**18
STATUS_BYTES = 4
FIRST_DESCRIPTOR, LAST_DESCRIPTOR = 3, 2**20


class Program(NamedTuple):
    """What a process is to run: ``python -P -m harness ARGUMENTS``."""

    arguments: list[str]
    env: dict[str, str]


class _BegunAgain(BaseException):
    """This process is to run another program."""

    def __init__(self, program: Program) -> None:
        self.program = program


class Interpreter:
    """An interpreter with libraries loaded; processes that are forked from it become as a new one."""

    def __init__(self) -> None:
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self.installed = [entry for entry in sys.path if entry not in given]
        self.warnings = list(warnings.filters), warnings.showwarning
        self.abstract_sockets = multiprocessing.util.abstract_sockets_supported
        self.environment = _place_of_environment()
        for name in COMMAND_LINE + FRAMEWORKS:
            # Horovod is not installed everywhere.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        self.replaced: list[types.ModuleType] = []
        self.handlers = {logger: list(logger.handlers) for logger in _loggers()}
        self.execve, self.spawn = os.execve, multiprocessing.util.spawnv_passfds
        # As bench.node.forkserver does: no child goes through these objects.
        gc.collect()
        gc.freeze()

    def run(self, program: Program) -> NoReturn:
        """Run a program, in a process that was forked for it, to its end."""
        os.execve, multiprocessing.util.spawnv_passfds = self._execve, self._spawn
        before = []
        while True:
            words = program.arguments
            self._renew(program.env, ["-m", *words], ["-m", "harness", *words])
            try:
                runpy.run_module("harness", run_name="__main__", alter_sys=True)
                status = 0
            except _BegunAgain as again:
                # What the replaced program has left is not freed, as by `exec`: it would close what it had opened.
                before.append(again)
                program = again.program
                _close_not_inherited()
                continue
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                status = 1
            threading._shutdown()
            atexit._run_exitfuncs()
            _end(status)

    def _execve(self, path: Any, argv: Sequence[str], env: dict[str, str]) -> None:
        names = env.keys() | os.environ.keys()
        differing = {name for name in names if env.get(name) != os.environ.get(name)}
        if path != sys.executable or list(argv[1:3]) != ["-m", "harness"] or not differing.issubset(HANDLED_ANEW):
            self.execve(path, argv, env)
        raise _BegunAgain(Program(list(argv[3:]), dict(env)))

    def _spawn(self, path: Any, args: list[str], passfds: Sequence[int]) -> int:
        loads_torch = "torch" in os.environ.get(PRELOAD_VARIABLE, "").split(",")
        # A thread that is forked away may hold a lock.
        if not (args[-1].startswith(FORKSERVER) and loads_torch and threading.active_count() == 1):
            return self.spawn(path, args, passfds)
        # A handler of this program is not to run in the other one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return pid
        status = 1
        try:
            _reset_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            kept = -1
            for descriptor in [*sorted(passfds), LAST_DESCRIPTOR]:
                os.closerange(max(kept + 1, FIRST_DESCRIPTOR), descriptor)
                kept = descriptor
            self._renew(dict(os.environ), ["-c"], args[1:])
            exec(args[-1], {"__name__": "__main__"})
            status = 0
        except SystemExit:
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            _end(status)

    def _renew(self, env: dict[str, str], argv: list[str], words: list[str]) -> None:
        """Make of this process what a new interpreter is after its start."""
        # Nothing of the program before is freed: its files and sockets would close what has their numbers by then.
        gc.freeze()
        os.environ.clear()
        os.environ.update(env)
        self._show_environment(env)
        paths = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or sys.executable
            if name.startswith("scaling_plugin_") or not file.startswith((*paths, sys.executable)):
                self.replaced.append(sys.modules.pop(name))
        sys.modules["__main__"] = sys.modules["__mp_main__"] = types.ModuleType("__main__")
        sys.path[:] = [*filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *self.installed]
        importlib.invalidate_caches()
        sys.argv[:], sys.orig_argv[:] = argv, [sys.executable, *words]
        _reset_signals()
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
            first = getattr(sys, f"__{name}__")
            how = {"encoding": first.encoding, "errors": first.errors, "closefd": False}
            with contextlib.suppress(OSError):
                stream = os.fdopen(descriptor, "w" if descriptor else "r", **how)
                stream.reconfigure(line_buffering=name == "stderr" or stream.isatty())
                setattr(sys, name, stream)
        sys.excepthook, sys.unraisablehook, threading.excepthook = (
            sys.__excepthook__,
            sys.__unraisablehook__,
            threading.__excepthook__,
        )
        warnings.filters[:], warnings.showwarning = self.warnings
        tempfile.tempdir = None
        for logger in _loggers():
            logger.handlers[:] = self.handlers.get(logger, [])
        multiprocessing.util._finalizer_registry.clear()
        multiprocessing.util.abstract_sockets_supported = self.abstract_sockets
        process._children.clear()
        process._current_process = type(process._current_process)()
        importlib.reload(multiprocessing.resource_tracker)
        importlib.reload(multiprocessing.forkserver)

    def _show_environment(self, env: dict[str, str]) -> None:
        """Write the environment where others read it: what the process was started with, as the kernel sees it."""
        begin, size = self.environment
        text = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
        ctypes.memmove(begin, text.ljust(size, b"\0")[:size], size)


def _place_of_environment() -> tuple[int, int]:
    """The address and the size of the environment that this process was started with."""
    # env_start and env_end, the fields 50 and 51 of proc(5); those behind the name of the program begin with the third.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[47]), int(fields[48])
    return begin, end - begin


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


def _reset_signals() -> None:
    """As by ``exec``: a handler is lost, and what is ignored stays so; then Python sets its own."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _close_not_inherited() -> None:
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        # That of the folder itself is closed by now.
        with contextlib.suppress(OSError):
            if descriptor >= FIRST_DESCRIPTOR and not os.get_inheritable(descriptor):
                os.close(descriptor)


def _end(status: int) -> NoReturn:
    """End without freeing what the libraries hold."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status & 0xFF)


def serve(requests: socket.socket) -> Program | None:
    """Fork a process for each request, and tell how it ends; returns in each of them, and at last in this one."""
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    pid, status = key.data
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _tell(status, os.waitpid(pid, 0)[1])
                    os.close(status)
                    continue
                text, descriptors, _, _ = socket.recv_fds(requests, MAX_MESSAGE_BYTES, 4)
                if not text:
                    return None
                pid = os.fork()
                if not pid:
                    return _set_up(json.loads(text), descriptors)
                *streams, status = descriptors
                _tell(status, pid)
                for descriptor in streams:
                    os.close(descriptor)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))


def _set_up(request: dict[str, Any], descriptors: Sequence[int]) -> Program:
    for own, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, own)
    os.chdir(request["cwd"])
    return Program(request["arguments"], request["env"])


def _tell(pipe: int, number: int) -> None:
    # The test may have forgotten the process.
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, number.to_bytes(STATUS_BYTES, "little"))


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    interpreter = Interpreter()
    program = serve(requests)
    if program is not None:
        requests.detach()
        os.closerange(FIRST_DESCRIPTOR, LAST_DESCRIPTOR)
        interpreter.run(program)


if __name__ == "__main__":
    main()
