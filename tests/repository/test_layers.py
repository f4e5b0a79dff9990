"""Nothing but a rank loads a framework, and commands load what they need. import-linter holds the order of rooms."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FRAMEWORKS = {"torch", "horovod", "dask", "dask_jobqueue", "distributed", "pynvml", "sklearn"}
CLIENTS = {"kubernetes"}
HOLDERS = (ast.stmt, ast.excepthandler, ast.match_case)
"""Nodes that contain imports, or are imports."""


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Top-level names of the packages that loading a file imports, and of those that its functions import."""
    loading, calling = set(), set()
    pending = [(ast.parse(path.read_text()), loading)]
    while pending:
        node, names = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        inside = calling if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else names
        pending += [(child, inside) for child in ast.iter_child_nodes(node) if isinstance(child, HOLDERS)]
    return loading, calling


@pytest.mark.parametrize("package", ["bench", "reports", "harness"])
def test_frameworks_are_imported_inside_functions_of_bench(package):
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 20
    for path in files:
        loading, calling = imports_of(path)
        assert not loading & FRAMEWORKS, path
        assert package == "bench" or not calling & FRAMEWORKS, path


HEAVY = {"numpy", "pandas", "scipy", "sqlalchemy", "jinja2", "plotly"}
SLURM = ["sweep", "--dry-run", "--site", "slurm"]
LISTING = (["sweep", "--dry-run"], ["list"], ["sweep", "--dry-run", "--json"], SLURM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commands", "forbidden"),
    [
        ([["--help"]], FRAMEWORKS | CLIENTS | HEAVY | {"pydantic", "bench", "reports"}),
        ([["sweep", "--dry-run"]], FRAMEWORKS | CLIENTS | HEAVY | {"rich"}),
        (LISTING, FRAMEWORKS | CLIENTS | HEAVY),
    ],
    ids=["help", "dry run", "listing"],
)
def test_a_command_loads_what_it_needs(commands, forbidden, tmp_path):
    program = f"""
import sys
from harness.cli.app import main
for arguments in {list(commands)!r}:
    assert main(arguments) == 0
loaded = sorted({forbidden!r} & set(sys.modules))
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    # In a folder without a store: an estimate of the time that a sweep takes reads it.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


FOLDERS = {".ci", ".github", "bench", "docker", "docs", "findings", "harness", "reports", "suites", "tests"}


@pytest.mark.slow
def test_what_a_run_leaves_behind_is_not_kept():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    assert {name.split("/")[0] for name in listing.stdout.split("\0") if "/" in name} == FOLDERS


OUTSIDE = ("e2e", "gpu", "perf")
NEEDED = re.compile(rf'importorskip\("({"|".join(sorted(FRAMEWORKS | {"psycopg"}))})\b')


def test_a_test_that_needs_a_framework_is_run_where_there_is_one():
    """Elsewhere it would be skipped, and run nowhere."""
    files = [
        path for path in (ROOT / "tests").rglob("*.py") if path.relative_to(ROOT / "tests").parts[0] not in OUTSIDE
    ]
    needing = [path for path in files if NEEDED.search(path.read_text())]
    assert needing
    assert [path for path in needing if "mark.frameworks" not in path.read_text()] == []
