"""Writes down when a rank reaches its parts. A forkserver that imports this module forks ranks that do so.

Each process writes ``moments-<role>-<rank>.json`` into the trial's folder: pairs of a name and seconds of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.node import forkserver
from bench.rank import worker
from bench.rank.progress import Progress

_moments: list[tuple[str, float]] = []


def note(name: str) -> None:
    _moments.append((name, time.monotonic()))


def _first(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        note(name)
        return call(*arguments, **named)

    return noted


def _run_and_write(case: Any, role: str, out: Path, arguments: Any) -> int:
    note("reads the case")
    status = _run(case, role, out, arguments)
    note("has left")
    name = f"moments-{role}-{os.environ.get('RANK', '0')}.json"
    (out / name).write_text(json.dumps(_moments))
    return status


def _enter(self: Progress, phase: str, step: int = 0) -> None:
    note(phase)
    _plain_enter(self, phase, step)


_run, _plain_enter = worker.run, Progress.enter
if os.environ.get("SCALING_WARM_PARENT"):
    forkserver.child_main = _first("is forked", forkserver.child_main)
    worker.run = _run_and_write
    worker._measure_work = _first("joining the other ranks", worker._measure_work)
    Progress.enter = _enter  # type: ignore[method-assign]
