"""Five programs as their users write them, each by one command and untouched, under each launcher that fits."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from importlib.util import find_spec

import pytest

from tests.support.gpu_processes import check_owners, gpu_with_ranks
from tests.support.paths import ROOT

PROGRAMS = ROOT / "tests" / "e2e" / "programs"
WARMUP, STEPS = 1, 12


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    with gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as env:
        yield env


def swept(harness, command: str, launchers: str, ranks: str, *arguments: str) -> list[dict]:
    """The stored trials of one sweep over a program's launchers and rank counts; all of them ended well."""
    before = digests()
    done = harness.run(
        *("sweep", harness.lean(), "--json", "--repeats", "1", "--script", f"{PROGRAMS}/{command}"),
        *("--launcher", launchers, "--ranks", ranks, "--warmup", str(WARMUP), "--steps", str(STEPS), *arguments),
    )
    assert done.returncode == 0, done.stderr
    harness.nothing_left()
    assert digests() == before
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        trials = [json.loads(body) for (body,) in store.execute("select body from trials")]
    cells = json.loads(done.stdout)["cells"]
    assert [cell["outcome"] for cell in cells] == ["ok"] * len(trials), [cell["reason"] for cell in cells]
    assert all(cell["same_work"]["verdict"] == "unproven" for cell in cells), (
        "the program reports neither losses nor parameters"
    )
    # Neither run by a launcher nor by hand would a program of one rank be asked about two.
    places = [(launcher, str(rank)) for launcher in launchers.split(",") for rank in ranks.split(",")]
    assert len(trials) == len([place for place in places if place != ("plain", "2")])
    return trials


def digests() -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PROGRAMS.glob("*.py")}


def check_stopped(trial: dict, *, amount: float, unit: str = "samples", counted: str = "DataLoader") -> None:
    """All ranks measured the same steps and were stopped after them; ``amount``: of a step of one rank."""
    case, ranks = trial["case"], trial["ranks"]
    assert [record["rank"] for record in ranks] == list(range(case["ranks"]))
    for record in ranks:
        run = record["program"]
        assert len(record["step_s"]) == STEPS
        assert record["warmup_steps"] == WARMUP
        assert record["unit"] == unit
        assert (run["counted"], run["amount_per_step"]) == (counted, amount)
        assert (run["ended"], run["exit_status"], run["exit_problem"]) == ("stopped", None, None)
        assert run["steps"] == WARMUP + STEPS
        assert run["optimizers"] == 1


@pytest.mark.parametrize(
    ("command", "launchers", "amount"),
    [
        ("mnist_ddp.py --workers 1 --batch-size 16", "torchrun,plain", 16),
        ("mnist_horovod.py --fp16-allreduce --batch-size 16", "horovod,mpi,plain", 16),
        ("lightning_autoencoder.py --devices {ranks}", "torchrun,plain", 32),
        ("accelerate_classifier.py --batch_size 8 --gradient_accumulation_steps 2", "torchrun,plain", 16),
    ],
    ids=["mnist", "horovod", "lightning", "accelerate"],
)
def test_a_program_is_measured_and_stopped(harness, gpu, command, launchers, amount):
    package = command.split("_")[0]
    if package in ("lightning", "accelerate") and find_spec(package) is None:
        pytest.skip(f"needs {package}")
    harness.env.update(gpu)
    for trial in swept(harness, command, launchers, "1,2", "--telemetry", "always"):
        check_stopped(trial, amount=amount)
        check_owners(trial, gpu)


def test_a_language_model_is_stopped_between_its_checkpoints(harness):
    import torch

    command = "train_lm.py --batch 2 --accumulate 2 --checkpoint-every 1"
    given = ("--samples-per-step", "256/rank", "--unit", "tokens")
    for trial in swept(harness, command, "torchrun,plain", "1,2", *given):
        check_stopped(trial, amount=256, unit="tokens", counted="given")
    # The last one was written by the last trial, before its last step; it is whole.
    checkpoint = torch.load(harness.folder / "out" / "ckpt.pt")
    assert checkpoint["step"] == WARMUP + STEPS - 1
    assert all(value.isfinite().all() for value in checkpoint["model"].values())


def test_a_language_model_runs_to_its_end(harness):
    import torch

    command = "train_lm.py --batch 2 --accumulate 2 --steps 20 --checkpoint-every 6 --log-every 2"
    (trial,) = swept(harness, command, "torchrun", "2", "--whole", "--metric", "([0-9]+) tokens/s", "--unit", "tokens")
    for record in trial["ranks"]:
        run = record["program"]
        assert (run["ended"], run["exit_status"], run["steps"], run["counted"]) == ("by itself", 0, 20, "printed")
        assert run["checkpoints"] == (3 if record["rank"] == 0 else 0)
        assert (run["checkpoint_s"] > 0) == (record["rank"] == 0)
        assert 0 < run["stepping_s"] < run["wall_s"]
    # Of the lines in the window, from step 2 to step 13.
    assert [len(record["program"]["printed"]) for record in trial["ranks"]] == [6, 0], "its first rank prints for all"
    assert torch.load(harness.folder / "out" / "ckpt.pt")["step"] == 18
