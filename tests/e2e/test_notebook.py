"""The notebook of the documentation runs from its first cell to its last, with real ranks and a real kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NOTEBOOK = ROOT / "docs" / "how-to" / "notebook.ipynb"


def outputs(path: Path) -> list[list[tuple[str, list[str]]]]:
    """The kind and forms of each output that is a result, by cell."""
    cells = json.loads(path.read_text())["cells"]
    return [
        [(output["output_type"], sorted(output["data"])) for output in cell["outputs"] if "data" in output]
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def headers(path: Path) -> list[list[str]]:
    """The names of the columns of each table."""
    results = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", ()) if "data" in o]
    tables = ["".join(result["data"].get("text/html", "")) for result in results]
    return [re.findall(r"<th>([A-Za-z_]\w*)</th>", table) for table in tables if table]


def test_the_notebook_runs_and_shows_what_the_documentation_shows(tmp_path):
    pytest.importorskip("nbclient", reason="nbclient, of the group `test`, is not installed")
    executed = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "tests.support.notebooks", str(NOTEBOOK), "--out", str(executed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert outputs(executed) == outputs(NOTEBOOK)
    assert headers(executed) == headers(NOTEBOOK)
    assert ["backend", "ranks", "outcome", "reason", "same_work", "flags"] in headers(executed)
