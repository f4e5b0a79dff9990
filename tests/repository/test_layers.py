"""The direction of dependency, and that nothing but a rank loads a framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FRAMEWORKS = {"torch", "horovod", "dask", "dask_jobqueue", "distributed", "pynvml", "sklearn"}
CLIENTS = {"kubernetes"}
FORBIDDEN = {"bench": {"harness", "reports"}, "reports": {"harness"}, "harness": set()}
HOLDERS = (ast.stmt, ast.excepthandler, ast.match_case)
"""What may hold an import, or be one."""


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Top-level names of the packages that loading a file imports, and of those that its functions import."""
    loading, calling = set(), set()
    left = [(ast.parse(path.read_text()), loading)]
    while left:
        node, found = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        inside = calling if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else found
        left += [(child, inside) for child in ast.iter_child_nodes(node) if isinstance(child, HOLDERS)]
    return loading, calling


@pytest.mark.parametrize("package", FORBIDDEN)
def test_dependency_has_one_direction_and_only_ranks_load_frameworks(package):
    for path in (ROOT / package).rglob("*.py"):
        loading, calling = imports_of(path)
        assert not (loading | calling) & FORBIDDEN[package], path
        assert not loading & FRAMEWORKS, path
        assert package == "bench" or not calling & FRAMEWORKS, path


HEAVY = {"numpy", "pandas", "scipy", "sqlalchemy", "jinja2", "plotly"}
SLURM = ["sweep", "--dry-run", "--site", "slurm"]
LISTING = (["sweep", "--dry-run"], ["list"], ["sweep", "--dry-run", "--json"], SLURM)


@pytest.mark.parametrize(
    ("commands", "forbidden"),
    [
        ([["--help"]], FRAMEWORKS | CLIENTS | HEAVY | {"pydantic", "bench", "reports"}),
        ([["sweep", "--dry-run"]], FRAMEWORKS | CLIENTS | HEAVY | {"rich"}),
        (LISTING, FRAMEWORKS | CLIENTS | HEAVY),
    ],
    ids=["help", "dry run", "listing"],
)
def test_a_command_loads_what_it_needs(commands, forbidden):
    program = f"""
import sys
from harness.cli.app import main
for arguments in {list(commands)!r}:
    assert main(arguments) == 0
loaded = sorted({forbidden!r} & set(sys.modules))
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
