"""A user's own model in a few lines: the tutorial's file under every backend, a mistake in it, and the way to it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.conftest import ROOT

TUTORIAL = ROOT / "docs" / "how-to" / "my_lm.py"
MAX_LINES = 20
BACKENDS = "ddp,fsdp,horovod,dask"
CLIPPED_FIRST = """
    for parameter in trained.parameters():
        parameter.register_hook(lambda gradient: gradient * (0.01 / gradient.norm()).clamp(max=1))
"""


@pytest.fixture
def tutorial(harness):
    shutil.copy(TUTORIAL, harness.folder)
    return harness


def test_the_tutorial_is_short():
    lines = TUTORIAL.read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= MAX_LINES
    assert max(map(len, lines)) <= 120


def test_the_tutorial_s_model_does_the_same_work_under_every_backend(tutorial):
    arguments = ["--plugin", "my_lm.py", "--workloads", "lm", "--backends", BACKENDS, "--ranks", "2", "--batch", "16"]
    document = tutorial.lean_sweep(*arguments)
    cells = {cell["backend"]: cell for cell in document["cells"]}
    assert set(cells) == set(BACKENDS.split(","))
    for cell in cells.values():
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same")
        assert cell["same_work"]["label"] == "float32, rounding of bfloat16"
        named = {"optimizer": "own", "accumulate": 4, "clip": 1.0, "precision": "bf16"}
        assert cell["workload_options"] == named
        assert cell["throughput"]["unit"] == "tokens/s"
    tutorial.nothing_left()


def test_clipping_before_the_exchange_is_caught(tutorial):
    file = tutorial.folder / "my_lm.py"
    source = file.read_text().replace("return nn.Sequential", "trained = nn.Sequential")
    head, after, rest = source.partition("\n\n\ndef loss")
    file.write_text(f"{head}{CLIPPED_FIRST}    return trained\n{after}{rest}")
    arguments = ["--plugin", "my_lm.py", "--workloads", "lm", "--backends", "ddp", "--ranks", "2", "--batch", "16"]
    (cell,) = tutorial.lean_sweep(*arguments, status=4)["cells"]
    assert (cell["outcome"], cell["throughput"], cell["same_work"]["verdict"]) == ("invalid", None, "different")
    assert "gradient" in cell["reason"]


def test_a_new_workload_is_ready_and_a_mistake_in_it_is_named(harness):
    assert harness.run("new", "workload", "mine").returncode == 0
    done = harness.run("try", "mine.py", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["ready"]) == (0, "scaling-harness/try/1", True)
    tried = {(attempt["ranks"], attempt["outcome"], attempt["same_work"]) for attempt in document["attempts"]}
    assert tried == {(1, "ok", "same"), (2, "ok", "same")}
    command = "python -m harness sweep --plugin mine.py --workloads mine --backends ddp --ranks 1,2"
    assert document["command"] == command

    file = harness.folder / "mine.py"
    file.write_text(file.read_text().replace("cross_entropy(outputs, targets)", "cross_entropy(outputs.T, targets)"))
    number = next(number for number, line in enumerate(file.read_text().splitlines(), 1) if "outputs.T" in line)
    wrong = harness.run("try", "mine.py", "--backends", "single", "--ranks", "1")
    assert wrong.returncode == 4
    (failed,) = wrong.stdout.splitlines()
    assert failed.startswith("failed   mine")
    assert "on a batch of float32 (2, 32), int64 (2,): ValueError" in failed
    assert f"(line {number})" in failed
    assert "not ready" in wrong.stderr
    harness.nothing_left()
