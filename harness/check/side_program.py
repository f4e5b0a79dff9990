"""The program of a side's process: measures cases with the code of its tree, one at a time, until the pipe closes.

The program belongs to the running harness, but everything it imports is the tree's, which may be older. It therefore
calls as little of it as possible, and answers with an error whatever fails. Requests and answers are JSON:

    {"do": "begin", "site": …, "backends": […], "programs_only": …}          → {"code": {package: folder}}
    {"do": "measure", "case": …, "number": …, "folder": …, "environment": …} → {"trial": the trial's own JSON}
    anything that fails                                                     → {"problem": one line}
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

PACKAGES = ("bench", "reports", "harness")
# Imported at the beginning, so that errors in them are reported before anything is measured.
REQUIRED_MODULES = ("worker", "registry", "runner")
MODULES = {
    "case": ("bench.core.case", "bench.case"),
    "worker": ("bench.rank.worker", "bench.worker"),
    "registry": ("bench.plugins.registry", "bench.registry"),
    "runner": ("harness.sweep.runner", "harness.run"),
    "site": ("harness.sites.{site}.site", "harness.sites.{site}"),
}
"""Names of the modules that are called here: the present one first, then the one before 2026-11-27."""
GRACE_S = 10.0

Request = dict[str, Any]


def main(descriptor: int) -> None:
    """Answer requests from the pipe with this file descriptor until it closes."""
    pipe = Connection(descriptor)
    requests: SimpleQueue[Request] = SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_listen, args=(pipe, requests), daemon=True).start()
    side = TreeRunner()
    while True:
        pipe.send_bytes(json.dumps(_answer(side, requests.get())).encode())


def _listen(pipe: Connection, requests: SimpleQueue[Request]) -> None:
    """Queue requests. When the pipe closes, end the running trial and this process."""
    with suppress(EOFError, OSError):
        while True:
            requests.put(json.loads(pipe.recv_bytes()))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _answer(side: TreeRunner, request: Request) -> dict[str, Any]:
    actions: dict[str, Callable[..., dict[str, Any]]] = {"begin": side.begin, "measure": side.measure}
    action = actions[request.pop("do")]
    try:
        return action(**request)
    except Exception as problem:
        traceback.print_exc()
        return {"problem": _describe(problem)}


def _describe(problem: Exception) -> str:
    message = " ".join(str(problem).split())
    if isinstance(problem, SyntaxError) and problem.filename:
        message = f"{problem.msg} ({problem.filename}, line {problem.lineno})"
    return f"{type(problem).__name__}: {message}"


class TreeRunner:
    """Runs trials by the tree's own site and backends."""

    def __init__(self) -> None:
        self.site: Any = None
        self.backends: list[str] = []
        self.programs_only = False
        self.warm = False

    def begin(self, site: str, backends: list[str], programs_only: bool = False) -> dict[str, Any]:
        """Import the tree's packages; returns the folder of each."""
        self.programs_only = programs_only
        code = {name: str(Path(str(importlib.import_module(name).__file__)).parent) for name in PACKAGES}
        for name in REQUIRED_MODULES:
            _module(name)
        self.site, self.backends = _module("site", site=site).SITE, backends
        return {"code": code}

    def measure(self, case: Request, number: int, folder: str, environment: str) -> dict[str, Any]:
        """Run one trial; returns it as JSON."""
        parsed_case = _module("case").Case.model_validate(case)
        self._warm_up(parsed_case)
        trial = _module("runner").run_trial(
            parsed_case, number, self.site, _backend_of(parsed_case), Path(folder), environment
        )
        return {"trial": trial.model_dump_json()}

    def _warm_up(self, case: Any) -> None:
        """Load frameworks before the first trial, not earlier: that would disturb a trial of the other side."""
        if self.warm:
            return
        if self.programs_only and hasattr(self.site, "reserve"):
            # Nothing is loaded then: the ranks of a program load their frameworks by themselves.
            self.site.reserve((case,))
        modules: list[str] = []
        for name in self.backends:
            # A backend that cannot be loaded fails its own trials, with the reason.
            with suppress(Exception):
                modules += _backend(name).preload
        self.site.warm(tuple(dict.fromkeys(modules)))
        self.warm = True


def _backend_of(case: Any) -> Any:
    """A case carries its plugins; a tree from before 2026-11-27 knows none."""
    registry = _module("registry")
    return registry.backend_of(case) if hasattr(registry, "backend_of") else registry.load_backend(case.backend)


def _backend(name: str) -> Any:
    return _module("registry").load_backend(name)


def _module(purpose: str, **names: str) -> Any:
    """The tree's module for a purpose, under the first of its names that exists."""
    candidates = [name.format(**names) for name in MODULES[purpose]]
    for name in candidates:
        if _exists(name):
            return importlib.import_module(name)
    return importlib.import_module(candidates[0])


def _exists(name: str) -> bool:
    with suppress(ModuleNotFoundError):
        return importlib.util.find_spec(name) is not None
    return False


if __name__ == "__main__":
    main(int(sys.argv[2]))
