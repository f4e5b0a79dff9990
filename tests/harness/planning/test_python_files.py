"""A Python file where a name is expected: the error names the option that takes it."""

from __future__ import annotations

import pytest

from harness.cli.app import main

WORKLOAD = '''"""A model."""

WORKLOAD = None
'''
PROGRAM = "import nothing_that_is_installed\n"


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lm.py").write_text(WORKLOAD)
    (tmp_path / "train_lm.py").write_text(PROGRAM)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workloads", "./my_lm.py"], "a workload in a file is named by --plugin ./my_lm.py --workloads NAME"),
        (["--workloads", "./train_lm.py"], "a program is measured as it is by --script ./train_lm.py"),
        (["--workloads", "train_lm:LM"], "a program is measured as it is by --script train_lm.py"),
        (["--backends", "train_lm.py"], "--script train_lm.py"),
        (["train_lm.py"], "unknown suite 'train_lm.py'; a program is measured as it is by --script train_lm.py"),
        (["--workloads", "no_lm.py"], "plugin no_lm.py: cannot be read"),
        (["--workloads", "no:LM"], "unknown workload 'no:LM'; known: "),
        (["--workloads", "mnits"], "unknown workload 'mnits'; did you mean 'mnist'?"),
        (["--plugin", "train_lm.py"], "No module named 'nothing_that_is_installed' (line 1); what a plugin imports"),
    ],
)
def test_the_option_for_a_python_file_is_named(arguments, said, caplog):
    assert main(["sweep", *arguments, "--dry-run"]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said in line
    assert "\n" not in line
