"""Shows how far a build is whose tools write to a log: the phase, its percentage, and the time since its start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

LOOK_EVERY_S = 0.5
PIPED_EVERY_S = 15.0
"""Between two lines where they stay: in a file, or a job's log."""
TAIL_BYTES = 20_000
PHASES = (
    (
        "packing the wheel",
        re.compile(r"^\s*(?:running install_lib|Created wheel for|creating '.*\.whl')", re.MULTILINE),
    ),
    ("compiling", re.compile(r"^\s*\[ *(?P<percent>\d+)%\] ", re.MULTILINE)),
    ("configuring", re.compile(r"^\s*-- ", re.MULTILINE)),
    ("fetching the sources", re.compile(r"^\s*(?:Collecting|Downloading|Using cached) ", re.MULTILINE)),
)
"""By the lines that pip and CMake write in each, the last phase first."""


def describe_phase(log: str) -> str:
    """What a build does, by the end of its log: ``compiling, 34 %`` (pure)."""
    for phase, pattern in PHASES:
        if matches := list(pattern.finditer(log)):
            percent = matches[-1].groupdict().get("percent")
            return f"{phase}, {percent} %" if percent else phase
    return "starting"


def run_logged(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    title: str,
    out: TextIO = sys.stdout,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run a command whose output goes to a log, and show how far it is; returns its exit status.

    Args:
        command: Its words.
        env: All of its environment variables.
        log: The file that its output is added to.
        title: What is built, for people.
        out: Where to show it: one line that changes on a terminal, else a line now and then.
        clock: Gives the time in seconds.
    """
    began = shown_at = clock()
    live, shown = out.isatty(), ""
    start = log.stat().st_size if log.exists() else 0
    with (
        log.open("a") as output,
        subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            try:
                process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                now = clock()
                if live or now - shown_at >= PIPED_EVERY_S:
                    shown, shown_at = f"{title}: {describe_phase(_tail(log, start))}, {_elapsed(now - began)}", now
                    print(f"\r\x1b[K{shown}" if live else shown, end="" if live else "\n", file=out, flush=True)
    if live and shown:
        print("\r\x1b[K", end="", file=out, flush=True)
    return process.returncode


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return file.read().decode(errors="replace")


def _elapsed(time_s: float) -> str:
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"
