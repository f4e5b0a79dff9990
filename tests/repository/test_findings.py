"""The scripts of findings/ and the table of them in the documentation say the same."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.paths import ROOT

PAGE = ROOT / "docs/reference/findings.md"
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))
ROWS = {
    cells[-1].strip("`"): cells
    for line in PAGE.read_text().splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split(" | ")]) == 4 and ".sh`" in cells[-1]
}


def test_every_script_is_in_the_table_once():
    assert sorted(ROWS) == [f"findings/{script.name}" for script in SCRIPTS]
    assert PAGE.read_text().count(".sh`") == len(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_pins_what_it_names(script):
    text = script.read_text()
    versions = re.search(r"^# Versions: (.*)$", text, re.MULTILINE)
    assert versions is not None, "a comment names the versions"
    assert re.search(r"^# Seen", text, re.MULTILINE), "a comment shows the output that was seen"
    assert re.search(r"\bdiff\b", text), "the output is compared with what was seen"
    package, version = ROWS[f"findings/{script.name}"][1].rsplit(" ", 1)
    assert package in versions[1]
    assert version in versions[1]
    if package != "CPython":
        assert f"{package}=={version}" in text or f"{package}[" in text
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_runs_without_our_code(script):
    assert not re.search(r"^\s*(from|import) (bench|harness|reports)\b|-m harness", script.read_text(), re.MULTILINE)
