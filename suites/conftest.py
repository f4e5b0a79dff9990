"""What pytest-benchmark's files say of the machine, beside what they say by themselves."""

from __future__ import annotations

import importlib.metadata
from typing import Any

DECISIVE = ("torch", "numpy")
"""Packages that do the work: of another version, nights may not be compared."""


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["packages"] = {name: importlib.metadata.version(name) for name in DECISIVE}
