"""The direction of dependency, and that nothing but a rank loads a framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = {"torch", "horovod", "dask", "distributed", "pynvml", "sklearn"}
CLIENTS = {"kubernetes"}
FORBIDDEN = {"bench": {"harness", "reports"}, "reports": {"harness"}, "harness": set()}


def imports_of(path: Path, *, at_top: bool) -> set[str]:
    """Top-level names of the packages a file imports; with ``at_top`` only what loading the file imports."""
    tree = ast.parse(path.read_text())
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if at_top and node in inside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_dependency_has_one_direction(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not imports_of(path, at_top=False) & FORBIDDEN[package], path


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_module_loads_a_framework(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not imports_of(path, at_top=True) & FRAMEWORKS, path


@pytest.mark.parametrize("package", ["reports", "harness"])
def test_only_bench_uses_frameworks_at_all(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not imports_of(path, at_top=False) & FRAMEWORKS, path


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--dry-run"],
        ["list"],
        ["sweep", "--dry-run", "--json"],
        ["sweep", "--dry-run", "--site", "kubernetes"],
    ],
)
def test_planning_and_listing_load_no_framework(arguments):
    program = f"""
import sys
from harness.cli import main
assert main({arguments!r}) == 0
loaded = sorted({FRAMEWORKS | CLIENTS!r} & set(sys.modules))
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
