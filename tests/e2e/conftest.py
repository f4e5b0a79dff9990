"""Runs the real command on real ranks, in an empty folder, and looks for what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.chromium import chromium
from tests.support.paths import ROOT
from tests.support.preloaded import PreloadedHarness, can_run_preloaded, end_server

MARK = "SCALING_TEST_MARK"
COMMAND = (sys.executable, "-m", "harness")
LEAN = """
decompose = false
own_cost = false
roofline = false
warmup = 3
"""
"""Of what trials measure after their window, nothing; before it, so many steps, however steady they are."""


@pytest.fixture(scope="session", autouse=True)
def _nobody_s_worker() -> None:
    """A pytest that a test starts is not one of those that run side by side: pytest-benchmark would time nothing."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _buffered_output() -> None:
    """A preloaded process can't have the streams that Python opens where this is set."""
    os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.fixture(scope="session", autouse=True)
def _no_preloaded_process_is_left() -> Iterator[None]:
    yield
    end_server()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Of the two halves of these tests (those marked ``alone``, and the others) one may hold nothing that was asked
    for."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK


class Harness:
    """``python -m harness`` of one source tree, run in one folder.

    Args:
        folder: The current folder of its commands.
        source: The folder of the packages.
        preloaded: Whether commands are forked from a process that has loaded the libraries
            (:mod:`tests.support.preloaded`), where no test needs a new interpreter.
    """

    def __init__(self, folder: Path, source: Path = ROOT, *, preloaded: bool = False) -> None:
        self.folder, self.source, self.mark = folder, source, uuid.uuid4().hex
        self.command: tuple[str, ...] = COMMAND
        self.env = {**os.environ, "PYTHONPATH": str(source), MARK: self.mark}
        self.preloaded = preloaded

    def start(self, *arguments: str) -> subprocess.Popen:
        if self.preloaded and self.command == COMMAND and can_run_preloaded(self.env):
            return PreloadedHarness(arguments, cwd=self.folder, env=self.env)
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def sweep(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Sweep with one short trial a case, and return the JSON document."""
        done = self.run("sweep", "--json", "--repeats", "1", "--window", "0.1", *arguments)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def lean(self, *kept: str) -> str:
        """The file of a suite whose trials measure nothing after their window but what is ``kept``."""
        lines = [line for line in LEAN.splitlines() if line.split(" ")[0] not in kept]
        (self.folder / "lean.toml").write_text("\n".join(lines))
        return "lean.toml"

    def lean_sweep(self, *arguments: str, keeping: Sequence[str] = (), status: int = 0) -> dict[str, Any]:
        return self.sweep(self.lean(*keeping), *arguments, status=status)

    def left_running(self) -> list[str]:
        """Processes that this harness started and that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def nothing_left(self, within_s: float = 3.0) -> None:
        deadline = time.monotonic() + within_s
        while self.left_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.left_running() == []


class Room(Harness):
    """A harness that sees mounts which nobody else sees; they go when it is left."""

    def __init__(self, folder: Path, mounts: str) -> None:
        super().__init__(folder)
        root = os.geteuid() == 0
        made = ["unshare", "--mount"] if root else ["unshare", "--user", "--map-root-user", "--mount"]
        entered = ["nsenter", "--mount"] if root else ["nsenter", "--user", "--preserve-credentials", "--mount"]
        try:
            # `cat` keeps the room open until the test, or the whole test run, is gone.
            self.holder = subprocess.Popen(
                [*made, "sh", "-c", f"{mounts} && echo made && exec cat"],
                cwd=folder,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError:
            pytest.skip("mounting needs unshare (util-linux)")
        if self.holder.stdout.readline() != "made\n":
            pytest.skip(f"mounting is not permitted here: {self.holder.communicate()[1].strip()}")
        self.enter = [*entered, "--target", str(self.holder.pid), "sh", "-c", 'cd "$0" && exec "$@"', str(folder)]

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*self.enter, sys.executable, "-m", "harness", *arguments],
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def inside(self, *command: str) -> int:
        return subprocess.run([*self.enter, *command], stderr=subprocess.DEVNULL, timeout=30, check=False).returncode

    def leave(self) -> None:
        self.holder.communicate(timeout=30)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One for all tests of a worker; each sets what it needs before it opens a page."""
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def harness(tmp_path, request) -> Harness:
    # A test whose numbers count has processes as a user's are.
    return Harness(tmp_path, preloaded=request.node.get_closest_marker("alone") is None)


@pytest.fixture
def new_interpreter(harness) -> None:
    """The test's commands run in new interpreters, as a user's do."""
    harness.preloaded = False


@pytest.fixture
def planted(tmp_path):
    """A harness over a copy of the sources with further files in it: ``planted({"bench/backends/x.py": "…"})``."""

    def plant(files: dict[str, str]) -> Harness:
        source, folder = tmp_path / "source", tmp_path / "here"
        folder.mkdir()
        for package in ("bench", "harness", "reports", "suites"):
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in files.items():
            (source / name).write_text(text)
        return Harness(folder, source, preloaded=True)

    return plant


@pytest.fixture
def room(tmp_path):
    rooms = []

    def make(mounts: str) -> Room:
        (tmp_path / "disk").mkdir(exist_ok=True)
        rooms.append(Room(tmp_path, mounts))
        return rooms[-1]

    yield make
    for made in rooms:
        made.leave()


def by_title(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["title"]: cell for cell in document["cells"]}
