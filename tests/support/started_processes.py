"""Tests that start processes are marked ``slow``, and one that is not marked fails.

What a test decides in its own process takes milliseconds, and what starts another one takes up to a thousand times as
long: ``tox run -e fast`` stays fast because it runs the first kind alone. Python reports each start to an audit hook,
but for those of :mod:`multiprocessing` with ``spawn`` and ``forkserver``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.warm import FORKED_ELSEWHERE

EVENTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen", FORKED_ELSEWHERE})
MARKERS = ("slow", "frameworks")
"""Those of tests that ``tox run -e fast`` leaves out."""
WITH_PROCESSES = ("tests/e2e/", "tests/gpu/", "tests/perf/")
"""Folders whose tests run in environments of their own, marked or not."""
MAX_LENGTH = 80
"""Characters of a command in a message."""


class StartedProcesses:
    """A plugin of pytest: what the phase of a test that runs has started."""

    def __init__(self) -> None:
        self._commands: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS:
            self._commands.append(_command(event, arguments))

    @contextmanager
    def _none_by(self, item: pytest.Item) -> Iterator[None]:
        self._commands.clear()
        yield
        if self._commands and not may_start_processes(item):
            pytest.fail(f"starts a process ({self._commands[0]}): mark the test `slow`", pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with self._none_by(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self._none_by(item):
            return (yield)


def may_start_processes(item: pytest.Item) -> bool:
    """Whether a test is marked ``slow``, or runs in an environment of its own."""
    marked = any(item.get_closest_marker(name) is not None for name in MARKERS)
    return marked or item.nodeid.startswith(WITH_PROCESSES)


def _command(event: str, arguments: tuple[Any, ...]) -> str:
    """What is started, in one line."""
    if event != "subprocess.Popen":
        return event
    words = arguments[1]
    words = [words] if isinstance(words, str | bytes | os.PathLike) else words
    return " ".join(" ".join(map(os.fsdecode, words)).split())[:MAX_LENGTH]
