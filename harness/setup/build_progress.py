"""Shows how far a build is whose tools write to a log: the phase, its percentage, and the time since its start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from bench.node.guarded_command import guarded

LOOK_EVERY_S = 0.5
PIPED_EVERY_S = 15.0
"""Between two lines where they stay: in a file, or a job's log."""
PHASES = (
    ("fetching the sources", re.compile(r"^\s*(?:Collecting|Downloading|Using cached) ", re.MULTILINE)),
    ("configuring", re.compile(r"^\s*-- ", re.MULTILINE)),
    ("compiling", re.compile(r"^\s*\[ *(?P<percent>\d+)%\] ", re.MULTILINE)),
    (
        "packing the wheel",
        re.compile(r"^\s*(?:running install_lib|Created wheel for|creating '.*\.whl')", re.MULTILINE),
    ),
)
"""In their order, each by lines that pip and CMake write in it."""


@dataclass
class BuildLog:
    """How far a build is, by what it has written so far."""

    phase: int = -1
    percent: str | None = None
    _line: str = ""

    def read(self, text: str) -> None:
        """Take what the build has written since. Lines of an earlier phase change nothing."""
        complete, _, self._line = (self._line + text).rpartition("\n")
        for number, (_, pattern) in enumerate(PHASES):
            matches = list(pattern.finditer(complete)) if number >= self.phase else []
            if matches:
                self.phase, self.percent = number, matches[-1].groupdict().get("percent")

    def __str__(self) -> str:
        if self.phase < 0:
            return "starting"
        name = PHASES[self.phase][0]
        return name if self.percent is None else f"{name}, {self.percent} %"


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
    written, words = BuildLog(), guarded(command)
    with (
        log.open("a") as output,
        log.open(errors="replace") as reader,
        # A group of its own, which ends as a whole: an interrupted build leaves no compiler behind. Nor does one whose
        # command is killed, or whose terminal is closed.
        subprocess.Popen(words, env=env, stdout=output, stderr=subprocess.STDOUT, process_group=0) as process,
        _ended_on_error(process),
    ):
        reader.seek(0, os.SEEK_END)
        while process.poll() is None:
            try:
                process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                written.read(reader.read())
                now = clock()
                if live or now - shown_at >= PIPED_EVERY_S:
                    shown, shown_at = f"{title}: {written}, {_elapsed(now - began)}", now
                    print(f"\r\x1b[K{shown}" if live else shown, end="" if live else "\n", file=out, flush=True)
    if live and shown:
        print("\r\x1b[K", end="", file=out, flush=True)
    return process.returncode


@contextmanager
def _ended_on_error(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A context that ends the group of a process where something is raised inside."""
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _elapsed(time_s: float) -> str:
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"
