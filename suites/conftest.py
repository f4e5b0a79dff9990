"""Adds versions and variables to the files of pytest-benchmark, and leaves failed benchmarks out."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

import pytest

DECISIVE = ("torch", "numpy")
"""Packages that do the work. Nights with different versions of them are not compared."""

_failed: set[str] = set()


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    versions = {name: importlib.metadata.version(name) for name in DECISIVE}
    machine_info["packages"] = versions | _variables()


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    """A copy of the sources is no git checkout: its commit is that of its origin when it was copied."""
    try:
        from bench.host.running_code import read_source_copy
    except ImportError:
        return
    copy = read_source_copy()
    if copy is not None:
        commit_info.update(id=copy.commit, dirty=copy.changed_files)


def _variables() -> dict[str, str]:
    """The environment variables that change what is measured; none where an older tree is measured for a pair."""
    try:
        from bench.host.variables import recorded_variables
    except ImportError:
        return {}
    return {f"variable {name}": value for name, value in recorded_variables(os.environ).items()}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Drop benchmarks whose check failed: their times are not results."""
    output_json["benchmarks"] = [one for one in output_json["benchmarks"] if one["fullname"] not in _failed]
