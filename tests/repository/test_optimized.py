"""Nothing depends on docstrings or assertions, which ``python -OO`` (``PYTHONOPTIMIZE=2``) leaves out."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import contextlib, importlib, io, sys
assert False, "this does run"
for name in list(sys.argv[1:]):
    with contextlib.redirect_stdout(io.StringIO()) as help_text, contextlib.suppress(SystemExit):
        sys.argv = [name, "--help"]
        importlib.import_module(name).main()
    print(name, "usage" in help_text.getvalue())
"""


def test_every_program_runs_without_its_docstring():
    """Those that parse their arguments, ranks and agents among them."""
    programs = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("bench", "harness")
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"argparse\.ArgumentParser\(", path.read_text())
    ]
    assert "bench.rank.worker" in programs
    command = [sys.executable, "-OO", "-c", PROGRAM, *programs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in programs]
