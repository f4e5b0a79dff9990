"""Settings that every test shares."""

from __future__ import annotations

import gc
import logging
import os
import platform
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

from bench.host.lock_folder import FOLDER_VARIABLE  # noqa: E402
from harness.__main__ import GC_THRESHOLDS  # noqa: E402
from tests.support.golden import GoldenFiles  # noqa: E402 - rewritten first
from tests.support.started_processes import StartedProcesses  # noqa: E402

# A time limit for an example fails on a busy machine. In CI the same examples are tried every time.
settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tests")


@sa.event.listens_for(sa.Engine, "connect")
def _without_waiting_for_the_disk(connection, _record) -> None:
    """A test's store need not outlive a power failure: what a killed process has written, the system keeps anyway."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing them")


def pytest_configure(config: pytest.Config) -> None:
    platform.processor()  # it asks another process, once in this one
    config.pluginmanager.register(StartedProcesses())
    gc.set_threshold(*GC_THRESHOLDS)  # as the command line does, which tests call as a function


def pytest_collection_finish() -> None:
    """What was loaded with the tests lasts as long as they do, and is not looked at again by each collection."""
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests with one marker alone are asked for, the files that hold none are not imported: that takes longer
    than most of those tests."""
    marker = config.option.markexpr
    if marker not in {"slow", "frameworks"} or collection_path.suffix != ".py" or not collection_path.is_file():
        return None
    return True if f"mark.{marker}" not in collection_path.read_text() else None


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFiles:
    return GoldenFiles(update=request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def own_turns(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests that run side by side do not wait for each other's trials, nor for a sweep of this machine."""
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("turns"))


@pytest.fixture(autouse=True)
def log_level() -> None:
    """A command that a test or a fixture called with `--quiet` or `--verbose` has set the level for the process."""
    logging.getLogger("scaling_harness").setLevel(logging.NOTSET)
