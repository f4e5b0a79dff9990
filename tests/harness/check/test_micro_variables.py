"""The variables that change a micro-benchmark are part of the place where it was measured."""

from __future__ import annotations

import importlib.util
import runpy
from typing import Any

import pytest

from harness.importers.pytest_benchmark import place_of
from tests.support.paths import ROOT


def test_a_micro_benchmark_records_the_variables_that_change_it(monkeypatch):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("its version is recorded too")
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "DETAIL")
    info: dict[str, Any] = {}
    runpy.run_path(str(ROOT / "suites" / "conftest.py"))["pytest_benchmark_update_machine_info"](info)
    assert place_of(info)["variable TORCH_DISTRIBUTED_DEBUG"] == "DETAIL"
