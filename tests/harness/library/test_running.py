"""Sweeps run from a program: arguments, the process of the command, and how it ends. Real ranks: tests/e2e."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import typing

import psutil
import pytest

import harness
from harness.cli.sweep_options import CaseOptions
from harness.errors import CommandError, UsageError
from harness.library.options import SweepOptions, option_names, sweep_arguments
from harness.library.process import CommandEnd, run_command, run_process
from harness.library.running import command_error
from harness.planning.options import parse_settings
from harness.planning.variables import parse_variables
from tests.support.paths import ROOT

WAITS = """
import os, signal, time
def end(number, frame):
    os.write(2, b"ending\\n")
    os._exit(130)
signal.signal(signal.SIGINT, end)
os.write(2, b"ready\\n")
time.sleep(600)
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_every_option_of_the_command_is_an_argument():
    assert sorted(typing.get_type_hints(SweepOptions)) == sorted(option_names())
    assert {"ranks", "samples_per_step", "set", "plugin", "resume"} <= set(option_names())
    assert not {"json", "store", "dry_run", "suite"} & set(option_names())
    assert len(option_names()) > len(vars(CaseOptions)["__dataclass_fields__"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"ranks": [1, 2], "backends": "ddp,fsdp"}, ["--ranks=1", "--ranks=2", "--backends=ddp,fsdp"]),
        ({"ranks": (4,), "threads": None}, ["--ranks=4"]),
        ({"samples_per_step": "64/rank", "window": 0.5}, ["--samples-per-step=64/rank", "--window=0.5"]),
        ({"resume": True, "whole": False}, ["--resume"]),
        ({"set": {"mnist.eval": True, "ddp.bucket_cap_mb": [1, 25]}}, None),
        ({"inject": "-x"}, ["--inject=-x"]),
    ],
)
def test_options_become_the_words_of_the_command(options, words):
    found = sweep_arguments(options)
    if words is None:
        words = ["--set=mnist.eval=true", "--set=ddp.bucket_cap_mb=1", "--set=ddp.bucket_cap_mb=25"]
    assert found == words


@pytest.mark.parametrize("value", ["plain", "a,b", 'say "x"', " spaced ", "=", "0"])
def test_any_value_of_a_setting_or_variable_arrives(value):
    settings = [word.removeprefix("--set=") for word in sweep_arguments({"set": {"slurm.nodelist": [value, 1]}})]
    assert parse_settings(settings) == {"slurm": {"nodelist": (value, "1")}}
    variables = [word.removeprefix("--env=") for word in sweep_arguments({"env": {"A": value, "B": ""}})]
    assert parse_variables(variables) == {"A": (value,), "B": ("",)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, "run: no option rank; did you mean 'ranks'?"),
        ({"dry_run": True}, "run: no option dry_run"),
        ({"threads": [1, 2]}, "run: --threads takes one value, not 2"),
        ({"resume": "yes"}, "run: --resume 'yes': expected True or False"),
    ],
)
def test_a_wrong_argument_is_one_line_and_starts_nothing(options, message):
    with pytest.raises(UsageError) as caught:
        harness.run(**options)
    assert str(caught.value).startswith(message)


@pytest.mark.slow
def test_what_the_command_refuses_is_raised_with_its_exit_code(tmp_path, monkeypatch):
    """From another folder, which holds packages of the same names."""
    (tmp_path / "harness.py").write_text("raise SystemExit('the package of somebody else')")
    monkeypatch.chdir(tmp_path)
    seen = []
    with pytest.raises(harness.HarnessError, match=r"^unknown backend 'ddq'; did you mean 'ddp'\?$") as caught:
        harness.run(backends="ddq", progress=seen.append)
    assert isinstance(caught.value, CommandError)
    assert caught.value.exit_code == 2
    assert seen == [f"error: {caught.value}"]
    assert [path.name for path in tmp_path.iterdir()] == ["harness.py"]


@pytest.mark.slow
def test_a_command_gives_its_output_and_its_messages_apart():
    end = run_command(["list", "--json"], {}, lambda line: None)
    assert end.exit_code == 0
    assert json.loads(end.output)["schema"] == "scaling-harness/list/1"


@pytest.mark.slow
def test_neither_pipe_waits_for_the_other():
    program = """
import sys
for number in range(3000):
    print("x" * 99)
    print(f"{number} " + "y" * 99, file=sys.stderr)
sys.exit(4)
"""
    seen = []
    end = run_process(python(program), os.environ, seen.append)
    assert end.exit_code == 4
    assert len(end.output) == 3000 * 100
    assert [line.split()[0] for line in end.messages] == [str(number) for number in range(3000)]
    assert tuple(seen) == end.messages


@pytest.mark.slow
def test_an_interrupt_reaches_the_command_once_and_its_end_is_waited_for():
    seen = []

    def show(line):
        seen.append(line)
        if line == "ready":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_process(python(WAITS), os.environ, show)
    assert seen == ["ready", "ending"]


@pytest.mark.slow
def test_a_command_does_not_outlive_what_is_raised_while_it_is_waited_for():
    before = set(psutil.Process().children())

    def show(line):
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="ready"):
        run_process(python(WAITS), os.environ, show)
    assert set(psutil.Process().children()) <= before


@pytest.mark.slow
def test_what_a_command_left_running_is_not_waited_for():
    """Its pipes are still open."""
    sleeping = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid); sys.stdout.flush()"
    seen = []
    end = run_process(python(f"{sleeping}; print('ended', file=sys.stderr)"), os.environ, seen.append)
    assert (end.exit_code, seen) == (0, ["ended"])
    os.kill(int(end.output), signal.SIGKILL)


@pytest.mark.slow
def test_a_command_ends_with_its_program():
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", "harness.library", str(reading), "check", "--calibrate"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, pass_fds=(reading,), stderr=subprocess.DEVNULL) as process:
        os.close(reading)
        os.close(writing)
        assert process.wait(timeout=60) in (-signal.SIGTERM, 130)


@pytest.mark.parametrize(
    ("end", "message", "exit_code"),
    [
        (CommandEnd(2, "", ("warning: x", "error: store s: is damaged", "")), "store s: is damaged", 2),
        (
            CommandEnd(70, "", ("error: KeyError: a defect, of this project",)),
            "KeyError: a defect, of this project",
            70,
        ),
        (CommandEnd(130, "", ("interrupted",)), "interrupted", 130),
        (CommandEnd(-9, "", ()), "the command was ended by SIGKILL; run it again, or with resume=True", 137),
        (CommandEnd(1, "", ()), "it said nothing", 1),
    ],
)
def test_the_end_of_a_command_is_one_line(end, message, exit_code):
    error = command_error(end)
    assert (str(error), error.exit_code) == (message, exit_code)
