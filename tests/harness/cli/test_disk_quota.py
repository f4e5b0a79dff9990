"""A disk quota that is spent is one line, as a full disk is, whatever was to be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.stores import write_sweep

pytestmark = pytest.mark.slow

SOURCE = ROOT / "tests" / "support" / "quota" / "spent.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler here (cc, gcc, clang), or no Linux")
    built = tmp_path_factory.mktemp("quota") / "spent.so"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-fPIC", "-shared", "-o", str(built), str(SOURCE), "-ldl"], check=True
    )
    return built


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report --store r.sqlite --out spent/page.html", "page.html: cannot be written (Disk quota exceeded); name"),
        (
            "merge r.sqlite --store spent/r.sqlite",
            "cannot be opened (disk I/O error); check its disk, and your quota",
        ),
        ("export --store r.sqlite --out spent/rows.csv", "rows.csv: cannot be written (Disk quota exceeded); name"),
        ("export --store r.sqlite > spent/rows.csv", "standard output cannot be written (Disk quota exceeded); write"),
    ],
)
def test_it_is_one_line(library, tmp_path, arguments, message):
    (tmp_path / "spent").mkdir()
    write_sweep(str(tmp_path / "r.sqlite"), "s1", 2)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library), "SPENT_QUOTA": str(tmp_path / "spent")}
    command = f"exec {sys.executable} -m harness {arguments}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
