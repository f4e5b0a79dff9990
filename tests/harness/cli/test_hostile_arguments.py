"""Names and messages from elsewhere reach the terminal as one literal line, whichever option or file they come from."""

from __future__ import annotations

import logging
import os
import pty

import pytest

from harness.cli.app import main
from harness.cli.output import configure_logging
from tests.support.warm import run_python

NAME = "x\x1b[2J\x1b]0;t\x07\x9b\u202ey\u2028z[red]q[/]\nerror: forged"
ARGUMENTS = {
    "store": ["report", "--store", NAME],
    "store of a check": ["check", "--store", NAME],
    "merged store": ["merge", NAME],
    "exported format": ["export", "--format", NAME],
    "fitted file": ["fit", NAME],
    "fitted model": ["fit", "a.csv", "--model", NAME],
    "history": ["check", "--history", NAME, "--current", NAME],
    "junit": ["check", "--junit", f"{NAME}/x.xml"],
    "suite": ["sweep", NAME],
    "suite's file": ["sweep", f"{NAME}.toml"],
    "backend": ["sweep", "--backends", NAME],
    "workload": ["sweep", "--workloads", NAME],
    "site": ["sweep", "--site", NAME],
    "setting": ["sweep", "--set", NAME],
    "value of a setting": ["sweep", "--set", f"workload.synthetic.layers={NAME}"],
    "plugin": ["list", "--plugin", NAME],
    "injected fault": ["sweep", "--inject", NAME],
    "number": ["sweep", "--steps", NAME],
    "flag": ["sweep", f"--{NAME}"],
    "ingested file": ["ingest", NAME],
    "importer": ["ingest", "a.json", "--from", NAME],
    "command": [NAME],
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_hostile_argument_is_quoted_on_one_line(arguments, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    output, error = capfd.readouterr()
    assert output == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert error.removesuffix("\n").isprintable()
    assert "[red]q[/]" in error or "flag" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_that_raises_controls_no_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "a.py"
    plugin.write_text(f"raise RuntimeError({NAME!r})")
    assert main(["list", "--plugin", str(plugin)]) == 2
    error = capfd.readouterr().err
    assert error.removesuffix("\n").isprintable()
    assert "[red]q[/]" in error


def test_a_traceback_in_the_log_keeps_its_lines_and_nothing_else(capfd):
    configure_logging()
    try:
        raise RuntimeError(NAME)
    except RuntimeError:
        logging.getLogger("scaling_harness").exception("while reading %s", NAME)
    first, *trace = capfd.readouterr().err.splitlines()
    assert first.startswith("while reading x")
    assert first.endswith("error: forged")
    assert all(map(str.isprintable, trace))
    assert len(trace) > 3


@pytest.mark.slow
def test_an_export_to_a_terminal_shows_what_a_file_keeps(tmp_path):
    program = "from harness.publish.export import print_export\nprint_export('a,\\x1b[2J\\u202e\\r\\n')"
    into_file = tmp_path / "trials.csv"
    with into_file.open("w") as file:
        assert run_python(["-c", program], tmp_path, stdout=file.fileno()).returncode == 0
    assert into_file.read_bytes().decode() == "a,\x1b[2J\u202e\r\n"
    terminal, device = pty.openpty()
    assert run_python(["-c", program], tmp_path, stdout=device).returncode == 0
    os.close(device)
    assert os.read(terminal, 100).decode().rstrip() == "a,\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"


@pytest.mark.slow
def test_what_a_library_warns_of_is_a_line(tmp_path):
    plugin = tmp_path / "a.py"
    plugin.write_text(
        f"import logging, warnings\nwarnings.warn({NAME!r})\nlogging.getLogger('other').warning({NAME!r})\n"
    )
    done = run_python(["-m", "harness", "list", "--plugin", str(plugin)], tmp_path)
    warned, logged, refused = done.stderr.splitlines()
    assert done.returncode == 2
    assert "UserWarning: x" in warned
    assert logged.startswith("x")
    assert refused.startswith("error: ")
    assert all(map(str.isprintable, (warned, logged, refused)))
