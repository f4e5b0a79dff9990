"""Standard output is for results: what a plugin, a library or a child prints goes to standard error."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.warm import run_python

pytestmark = pytest.mark.slow

NOISY = """
import os
print("printed")
os.write(1, b"written\\n")
os.system("echo from a child")
from bench.plugins.probe import ProbePlugin
PROBE = ProbePlugin("prints", lambda case: print("opened"))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_python(["-m", "harness", *arguments], folder)


def test_a_plugin_that_prints_spoils_no_document(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    done = run(tmp_path, "list", "--plugin", "noisy.py", "--json")
    assert done.returncode == 0, done.stderr
    assert "prints" in [probe["summary"] for probe in json.loads(done.stdout)["probes"]]
    assert done.stderr.splitlines() == ["printed", "written", "from a child"]


@pytest.mark.parametrize("code", ["sys.exit('text')", "sys.exit(1)", "sys.exit(0)", "raise GeneratorExit"])
def test_a_plugin_cannot_end_the_command(tmp_path, code):
    (tmp_path / "ends.py").write_text(f"import sys\n{code}\n")
    done = run(tmp_path, "list", "--plugin", "ends.py")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --plugin: plugin ends.py: ")
    assert done.stderr.count("\n") == 1


def test_nor_can_it_close_the_streams(tmp_path):
    (tmp_path / "closes.py").write_text(f"import sys; sys.stdout.close(); sys.stderr.close()\n{NOISY}")
    done = run(tmp_path, "list", "--plugin", "closes.py", "--json")
    assert done.returncode == 0, done.stderr
    assert "prints" in [probe["summary"] for probe in json.loads(done.stdout)["probes"]]


def test_a_plugin_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    done = run(tmp_path, "list", "--plugin", "pipe.py")
    assert done.returncode == 2
    assert done.stderr == "error: --plugin: plugin pipe.py: is no regular file; name a Python file\n"
