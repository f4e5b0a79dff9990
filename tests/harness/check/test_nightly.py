"""A night tells the gravest of what its steps found, and a step that breaks never looks like a verdict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.check.micro_benchmarks import MicroRun
from harness.check.nightly import (
    CHECK_MEANINGS,
    SWEEP_MEANINGS,
    NightlyOptions,
    StepResult,
    check_command,
    exit_status,
    read_exit_code,
    run_command,
    summarize_micro,
)
from harness.cli.app import main
from harness.output_files import locked_folder
from harness.store.opening import open_store
from tests.support.ended_processes import ends_within
from tests.support.paths import ROOT
from tests.support.stores import begin


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([0, 0], 0), ([0, 3, 0], 3), ([4, 3], 4), ([4, 1], 1), ([2, 1], 1), ([2, 4], 2), ([4, 0], 4)],
)
def test_the_gravest_step_is_the_exit_status(statuses, expected):
    assert exit_status([StepResult("step", status, "") for status in statuses]) == expected


@pytest.mark.parametrize(
    ("meanings", "code", "status", "message"),
    [
        (SWEEP_MEANINGS, 0, 0, "every trial gave a number"),
        (SWEEP_MEANINGS, 4, 4, "some trials gave no number"),
        (SWEEP_MEANINGS, 1, 4, "crashed: exit code 1"),
        (SWEEP_MEANINGS, 2, 2, "bad usage or input, see above"),
        (SWEEP_MEANINGS, -9, 4, "crashed: killed by SIGKILL"),
        (CHECK_MEANINGS, 1, 1, "regressed"),
        (CHECK_MEANINGS, 3, 3, "cannot tell"),
        (CHECK_MEANINGS, -11, 4, "crashed: killed by SIGSEGV"),
    ],
)
def test_an_exit_code_without_a_meaning_is_a_crash(meanings, code, status, message):
    assert read_exit_code("step", code, meanings) == StepResult("step", status, message)


def test_micro_benchmarks_without_a_number_are_told():
    fine = MicroRun(Path("1.json"))
    assert summarize_micro([fine, fine]).status == 0
    assert summarize_micro([fine, MicroRun(None, reason="took longer than 180 s")]) == StepResult(
        "micro", 4, "crashed: took longer than 180 s"
    )
    failed = MicroRun(Path("2.json"), failed={"a": "KeyError", "b": "OSError"})
    assert summarize_micro([failed, failed]).message == "crashed: a: KeyError; 1 more"


def test_what_the_check_is_asked():
    night = NightlyOptions("nightly", "store.sqlite", Path("out"), base_rev="v1")
    asked = check_command(night, "s1", confirm=True)[3:]
    assert asked[:7] == ["check", "--store", "store.sqlite", "--suite", "nightly", "--sweep", "s1"]
    assert asked[7:10] == ["--confirm", "--base-rev", "v1"]
    assert {"--junit", "out/junit.xml", "--markdown", "out/verdict.md", "--html", "--json"} <= set(asked)
    assert not {"--confirm", "--base-rev"} & set(check_command(night, "s1", confirm=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nigthly"], "unknown suite 'nigthly'; did you mean 'nightly'?"),
        (["--base-rev", "v1", "--no-confirm"], "--base-rev is the commit that suspects are confirmed against"),
        (["--store", "/dev/null/r.sqlite"], "store /dev/null/r.sqlite: cannot be"),
        (["--out", "/dev/null/pages"], "--out /dev/null/pages: cannot be written"),
    ],
)
def test_what_can_t_work_is_told_before_anything_is_run(arguments, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["nightly", *arguments]) == 2
    output = capfd.readouterr().err
    assert message in output
    assert output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_night_without_a_sweep_is_not_judged_and_leaves_no_earlier_verdict(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "verdict.json").write_text('{\n  "schema": "scaling-harness/verdict/1",\n  "exit": 0\n}')
    (tmp_path / "wrong.toml").write_text("backends = ['pigeon']\n")
    assert main(["nightly", "wrong.toml", "--no-micro", "--out", "out"]) == 2
    output = capfd.readouterr().err
    assert "wrong.toml:1: unknown backend 'pigeon'" in output
    assert "check        not run: there is no sweep of this night" in output
    assert list((tmp_path / "out").iterdir()) == []


OURS = {
    "junit.xml": '<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="harness check" tests="1">',
    "verdict.md": "## Nightly check: passed\n",
    "micro/micro-0.json": '{"machine_info": {}, "benchmarks": [{"fullname": "suites/test_micro.py::test_a"}]}',
    "micro/micro-2.json": "",
}
FOREIGN = {
    "notes.txt": "mine",
    "micro/thesis.txt": "mine",
    "micro/micro-7.json": "mine",
    "micro/folder/micro-0.json": "mine",
    ".verdict.json": "mine",
}


@pytest.mark.slow
def test_a_night_removes_its_own_files_and_no_others(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "out" / "micro" / "folder").mkdir(parents=True)
    for name, text in (OURS | FOREIGN).items():
        (tmp_path / "out" / name).write_text(text)
    (tmp_path / "wrong.toml").write_text("backends = ['pigeon']\n")
    assert main(["nightly", "wrong.toml", "--no-micro", "--out", "out"]) == 2
    left = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == set(FOREIGN)


@pytest.mark.parametrize(
    "name",
    ["report.html", "index.html", "verdict.html", "verdict.md", "verdict.json", "junit.xml", "micro/micro-0.json"],
)
def test_a_file_of_others_under_a_name_of_a_night_s_ends_it_before_anything_is_run(tmp_path, monkeypatch, capfd, name):
    monkeypatch.chdir(tmp_path)
    files = {"junit.xml": OURS["junit.xml"], name: '{"benchmarks": []}'}
    for file, text in files.items():
        (tmp_path / "out" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / file).write_text(text)
    assert main(["nightly", "--out", "out"]) == 2
    message = f"out/{name}: holds something that this command has not written; name another file, or remove it\n"
    assert capfd.readouterr().err.endswith(message)
    assert {file: (tmp_path / "out" / file).read_text() for file in files} == files


def test_the_store_is_no_output_of_a_night(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "junit.xml").touch()
    assert main(["nightly", "--out", "out", "--store", "out/junit.xml"]) == 2
    assert capfd.readouterr().err == "error: --out out/junit.xml: is the results store; name another file\n"


def test_two_nights_do_not_write_to_one_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with locked_folder("--out", tmp_path / "out"):
        (tmp_path / "out" / "junit.xml").write_text(OURS["junit.xml"])
        assert main(["nightly", "--out", "out"]) == 2
    message = "error: --out out: another run is writing to it; wait for its end, or name another folder\n"
    assert capfd.readouterr().err == message
    assert (tmp_path / "out" / "junit.xml").exists()


@pytest.mark.slow
def test_a_night_that_measured_nothing_is_not_fine_and_is_its_own_although_the_clock_was_set_back(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with closing(open_store("r.sqlite", create=True)) as store:
        begin(store, "later", "2999-01-01T00:00:00+00:00")
    plugin = ROOT / "tests/support/plugins/absent.py"
    (tmp_path / "mine.toml").write_text(f"plugins = ['{plugin}']\nbackends = ['absent']\nranks = [1]\n")
    assert main(["nightly", "mine.toml", "--no-micro", "--store", "r.sqlite", "--out", "out"]) == 4
    output = capfd.readouterr().err
    assert "sweep        nothing was measured: no trial gave a number" in output
    assert "no_such_framework not installed" in output
    assert "there is no sweep of this night" not in output
    assert "no_such_framework not installed" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_step_s_output_is_kept_and_its_exit_code_told(tmp_path):
    with (tmp_path / "document.json").open("w+b") as document:
        assert run_command([sys.executable, "-c", "print('{}'); raise SystemExit(3)"], document) == 3
        assert document.seek(0) == 0
        assert document.read() == b"{}\n"


STEP = """
import signal, sys, time
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
print("ready", flush=True)
while not told:
    time.sleep(0.01)
time.sleep(0.3)
print("tidied up after", len(told), flush=True)
"""
NIGHT = f"""
import sys
from harness.check.nightly import run_command
try:
    run_command([sys.executable, "-c", {STEP!r}])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def started():
    """A process that runs a step, in a process group of its own, as a shell would start it."""
    process = subprocess.Popen(
        [sys.executable, "-c", NIGHT], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("tell", [os.kill, os.killpg], ids=["a service", "a terminal"])
def test_an_interrupted_step_is_told_once_and_ends_tidily(started, tell):
    tell(started.pid, signal.SIGINT)
    assert started.communicate(timeout=20)[0] == "tidied up after 1\ninterrupted\n"


@pytest.mark.slow
def test_a_step_does_not_outlive_a_night_that_is_killed(started):
    step = int(Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text())
    started.kill()
    started.wait()
    assert ends_within(step, 10)
