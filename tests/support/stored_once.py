"""What many tests begin with, made once a process: the environment of this machine, and stores that are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from harness.planning.environment import Environment, machine_host, read_environment

_HERE = read_environment()
_WRITTEN: dict[str, bytes] = {}


def this_environment() -> Environment:
    """The environment of this process as a sweep records it. It takes three processes of git to read."""
    return _HERE.model_copy(update={"host": machine_host()})


def write_once(place: str | Path, write: Callable[[], None], *asked: object) -> None:
    """Have a SQLite store written to, or copy what became of the same store when the same was asked before.

    Args:
        place: The file, which need not exist.
        write: Changes the store, and closes it.
        asked: All that its changes depend on, beside what the store holds. Their ``repr`` says it.
    """
    path = Path(place)
    before = path.read_bytes() if path.exists() else b""
    key = hashlib.sha256(before + repr((machine_host(), asked)).encode()).hexdigest()
    if key in _WRITTEN:
        path.write_bytes(_WRITTEN[key])
    else:
        write()
        _WRITTEN[key] = path.read_bytes()
