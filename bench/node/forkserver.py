"""Fresh processes from a warm parent: the frameworks are loaded once, each rank is forked from there.

The parent is the standard library's fork server. It imports frameworks and nothing runs in it; every rank is a
new process with its own session, its own log and its own environment, and dies with the harness.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from bench.host.namespaces import enter_namespace
from bench.host.processes import die_with_parent

# What a training step touches sooner or later; torch._dynamo is pulled in by the first optimizer, 1.5 s a rank.
ALWAYS_PRELOADED = (
    "bench.rank.worker",
    "numpy",
    "torch",
    "torch.distributed",
    "torch.nn.parallel",
    "torch.optim",
    "torch._dynamo",
)


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start: a worker's arguments, or a command that takes its place (mpirun)."""

    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    namespace: str | None = None
    """The network namespace it lives in, as a path; ``None``: the machine's."""


def start_forkserver(modules: Sequence[str], always: Sequence[str] = ALWAYS_PRELOADED) -> Any:
    """A context whose processes are forked from a parent that has loaded ``always`` and ``modules``.

    One parent serves one harness; a module that can't be imported is left to the rank that needs it.
    """
    os.environ["SCALING_PRELOAD"] = ",".join([*always, *modules])
    os.environ["SCALING_HARNESS"] = str(os.getpid())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.node._preload"])
    # It loads while the harness prepares.
    forkserver.ensure_running()
    return context


def preload_modules() -> None:
    """Import what ``SCALING_PRELOAD`` names. Runs in the warm parent; see :mod:`bench.node._preload`."""
    # A rank holds the warm parent open and the warm parent its ranks: neither would notice a killed harness by itself.
    die_with_parent(int(os.environ["SCALING_HARNESS"]))
    os.environ["SCALING_WARM_PARENT"] = str(os.getpid())
    for name in os.environ.get("SCALING_PRELOAD", "").split(","):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def start_process(context: Any, spec: ProcessSpec, name: str) -> BaseProcess:
    """Start the process and return its handle."""
    process = cast(BaseProcess, context.Process(target=child_main, args=(spec,), name=name))
    process.start()
    return process


def child_main(spec: ProcessSpec) -> None:
    """The first lines of a new process: a session and a log of its own, and an end with its parent's."""
    os.setsid()
    die_with_parent(int(os.environ["SCALING_WARM_PARENT"]))
    log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if spec.namespace:
        enter_namespace(spec.namespace)
    os.environ.update(spec.env)
    if spec.command:
        os.execvpe(spec.command[0], spec.command, os.environ)
    status = _worker_main()(spec.arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks leave threads behind whose end may hang; all that counts is on disk by now.
    os._exit(status)


def _worker_main() -> Callable[[Sequence[str]], int]:
    from bench.rank.worker import main

    return main
