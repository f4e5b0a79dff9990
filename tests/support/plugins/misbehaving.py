"""A workload whose rank 1 misbehaves in its fourth step, in the way that an option names."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.core.case import Case
from bench.plugins.backend import Options, Session
from bench.plugins.workload import Work, Workload

STEP = 4
GIBIBYTE = 2**30
FILLER = b"x" * 2**20


class MisbehavingOptions(Options):
    how: Literal[
        "fill", "remove", "close", "print", "binary", "hang", "empty", "half", "huge", "leave", "daemon", "nothing"
    ] = Field("nothing", description="what rank 1 does")


def trial_folder() -> Path:
    """The folder of this trial, by the open log."""
    return Path("/proc/self/fd/1").readlink().parent


def fill() -> None:
    with (trial_folder() / "filler").open("wb", buffering=0) as file:
        while True:
            if file.write(FILLER) < len(FILLER):
                file.write(b"x")


def remove() -> None:
    shutil.rmtree(trial_folder())


def close() -> None:
    os.closerange(0, 1024)


def print_a_gigabyte() -> None:
    line = "y" * (2**20 - 1) + "\n"
    for _ in range(GIBIBYTE // len(line)):
        sys.stdout.write(line)


def print_binary() -> None:
    os.write(1, bytes(range(256)) * 64 + b"\x00\x1b[2J\xff\xfe\n")
    raise RuntimeError("after \x00 binary \x1b[31m output")


def hang() -> None:
    time.sleep(3600)


def spoil(size: int, content: bytes) -> Callable[[], None]:
    """Leave something in place of the record, which is not written in time."""

    def leave() -> None:
        with (trial_folder() / "record-1.json").open("wb") as file:
            file.write(content)
            file.truncate(size)
        os._exit(0)

    return leave


def leave_a_daemon() -> None:
    """Start a process in a session of its own, as a daemon does, that ignores requests to end."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1024)
            os.execv("/bin/sh", ["sh", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done"])
        os._exit(0)


WAYS: dict[str, Callable[[], None]] = {
    "fill": fill,
    "remove": remove,
    "close": close,
    "print": print_a_gigabyte,
    "binary": print_binary,
    "hang": hang,
    "empty": spoil(0, b""),
    "half": spoil(20, b'{"rank":1,"world":2,'),
    "huge": spoil(GIBIBYTE, b"{"),
    "leave": lambda: sys.exit(0),
    "daemon": leave_a_daemon,
    "nothing": lambda: None,
}


class MisbehavingWork(Work):
    """A step is one allreduce."""

    unit = "elements"
    amount_per_step = 8.0

    def __init__(self, how: str, session: Session) -> None:
        self.how, self.session, self.steps = how, session, 0

    def step(self) -> None:
        import torch

        self.steps += 1
        if self.steps == STEP and self.session.rank == 1:
            WAYS[self.how]()
        self.total = self.session.all_reduce_sum(torch.ones(8))

    def verify(self, steps: int) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
        return (), ()

    def snapshot(self) -> list[Any]:
        return []


class Misbehaving(Workload):
    name = "misbehaving"
    summary = "one allreduce; rank 1 misbehaves"
    kind = "collective"
    options = MisbehavingOptions
    devices = ("cpu",)
    uses_batch = False

    def build(self, case: Case, session: Session) -> Work:
        return MisbehavingWork(MisbehavingOptions(**case.workload_options).how, session)


WORKLOAD = Misbehaving()
