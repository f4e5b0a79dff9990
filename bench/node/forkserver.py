"""Starts processes from a warm forkserver: the frameworks are imported once, and each rank is forked from there.

The forkserver is that of the standard library. It imports modules and runs nothing else. Each rank is a new process
with a session, a log and an environment of its own, and ends with the harness, as all that it starts does
(:mod:`bench.node.guardian`).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from bench.host.namespaces import enter_namespace
from bench.host.processes import LAUNCHER_PID_VARIABLE, die_with_parent
from bench.host.resources import pin_threads, usable_cores
from bench.host.running_code import sources_digest
from bench.host.scratch import open_scratch
from bench.host.variables import remove_from_process, removed_variables
from bench.node.forked import end_forkserver, ensure_forkserver, start_within_limit
from bench.node.guardian import continue_under_guardian

WORKER_ENTRY = "bench.rank.worker:main"
"""The entry point of a rank, by name: what it needs is imported where it runs."""
ALWAYS_PRELOADED = (
    "bench.rank.worker",
    "numpy",
    "torch",
    "torch.distributed",
    "torch.nn.parallel",
    "torch.optim",
    "torch._dynamo",
)
"""Modules that every training step uses. The first optimizer imports torch._dynamo, which takes 1.5 s in each rank."""


_environment: dict[str, str] = {}
"""Of the forkserver, before a module that it imports has changed it."""


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start: an entry point with its arguments, or a command in place of it (mpirun)."""

    log: Path
    """The file that its output is appended to."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables on top of the forkserver's."""
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    namespace: str | None = None
    """The network namespace that it runs in, as a path; ``None``: that of the machine."""
    entry: str = WORKER_ENTRY
    """``module:function``; the function takes the arguments and returns the exit status."""


def start_forkserver(
    modules: Sequence[str], always: Sequence[str] = ALWAYS_PRELOADED, *, inside_job: bool = False
) -> Any:
    """Start the forkserver of this process, if it does not run yet, and return a multiprocessing context that uses it.

    It returns before the modules are imported. A module that can't be imported is skipped: the rank that needs it will
    fail with the reason.

    Args:
        modules: The modules to import, beside ``always``.
        always: Those that every rank needs.
        inside_job: This process belongs to a job of a batch system, whose variables the ranks inherit.
    """
    open_scratch()
    # Python 3.11.0 would name the forkserver's socket in a namespace that every user of the machine can enter.
    util.abstract_sockets_supported = False  # type: ignore[misc]  # Final in typeshed
    os.environ["SCALING_INSIDE_JOB"] = str(int(inside_job))
    os.environ["SCALING_PRELOAD"] = ",".join([*always, *modules])
    os.environ["SCALING_HARNESS"] = str(os.getpid())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.node._preload"])
    ensure_forkserver()
    atexit.register(end_forkserver)
    return context


def preload_modules() -> None:
    """Remove what ranks do not inherit, and import the modules that ``SCALING_PRELOAD`` names.

    Runs in the forkserver; see :mod:`bench.node._preload`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Ranks hold a pipe to the forkserver open, and it one to them: neither would notice a killed harness by itself.
    continue_under_guardian(int(os.environ["SCALING_HARNESS"]))
    os.environ["SCALING_WARM_PARENT"] = str(os.getpid())
    inside_job = os.environ.get("SCALING_INSIDE_JOB") == "1"
    remove_from_process(removed_variables(os.environ, inside_job=inside_job))
    _environment.update(os.environ)
    sources_digest()  # read once, for all ranks
    with _objects_frozen():
        for name in os.environ.get("SCALING_PRELOAD", "").split(","):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    # Ranks inherit the cores of this process, which a module may have changed.
    with contextlib.suppress(OSError):
        pin_threads(usable_cores())


@contextlib.contextmanager
def _objects_frozen() -> Iterator[None]:
    """What is made inside is never looked at by the garbage collector, in this process and in those forked from it.

    Frameworks leave 300,000 objects: each rank would go through them before its window, for 0.2 s, and copy their
    pages. The interpreter's documentation of ``gc.freeze`` advises this for processes that fork.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def start_process(context: Any, spec: ProcessSpec, name: str) -> BaseProcess:
    """Start a process from the forkserver.

    Args:
        context: What :func:`start_forkserver` returned.
        spec: The process.
        name: Its name in messages.

    Raises:
        StartError: If the forkserver ends, is stopped or hangs meanwhile.
    """
    process = cast(BaseProcess, context.Process(target=child_main, args=(spec,), name=name))
    start_within_limit(process)
    return process


def child_main(spec: ProcessSpec) -> None:
    """Set up a new process (session, log, signals, namespace, environment) and run its entry point or command."""
    os.setsid()
    die_with_parent(int(os.environ["SCALING_WARM_PARENT"]))
    log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if spec.namespace:
        enter_namespace(spec.namespace)
    if spec.command:
        variables = {**(_environment or os.environ), **spec.env, LAUNCHER_PID_VARIABLE: str(os.getpid())}
        os.execvpe(spec.command[0], spec.command, variables)
    os.environ.update(spec.env)
    tempfile.tempdir = None  # as the forkserver knows it, not as this environment says
    status = pkgutil.resolve_name(spec.entry)(spec.arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that frameworks leave behind may never end; everything that counts is on disk by now.
    os._exit(status)
