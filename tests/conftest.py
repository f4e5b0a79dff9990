"""Settings that every test shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

from tests.support.golden import GoldenFiles  # noqa: E402 - rewritten first

# A time limit for an example fails on a busy machine. In CI the same examples are tried every time.
settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFiles:
    return GoldenFiles(update=request.config.getoption("--update-golden"))


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """A command that a test calls with `--quiet` or `--verbose` sets the level for the process: put it back."""
    log = logging.getLogger("scaling_harness")
    before = log.level
    yield
    log.setLevel(before)
