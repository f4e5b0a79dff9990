"""A repository that holds nothing of this project: its nights and pull requests, by the templates that we ship."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness.store.opening import open_store
from tests.support.repeated_nights import repeat_night
from tests.support.user_repositories import UserRepository
from tests.support.workflow_runs import CI, Runner

pytestmark = pytest.mark.alone

SLOWER = 1.1
CHANGES = {
    'backends = ["torchrun"]': 'backends = ["plain"]',
    "ranks = [1, 2]": "ranks = [1]",
    "repeats = 5": "repeats = 3",
    "window_s = 2": 'window_s = 0.4\nwarmup = 2\ntelemetry = "off"',
    'command = "train.py"': "command = \"train.py\"\nmetric = 'speed: ([0-9.]+) img/s'",
}
"""What the test's repository has otherwise than the template: short trials of a program without torch."""
MODULE = """
import time


def step():
    time.sleep({step_s:g})
"""
TRAIN = """
import time

import theirs

while True:
    began = time.perf_counter()
    theirs.step()
    print(f"speed: {1 / (time.perf_counter() - began):.3f} img/s", flush=True)
"""
INSTALL = (
    'python -c \'import pathlib, shutil, sysconfig; shutil.copy("library/theirs.py", sysconfig.get_path("purelib"))\''
)


def configuration() -> str:
    text = (CI / "scaling.toml").read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture
def repository(tmp_path):
    made = UserRepository(tmp_path / "own")
    (made.path / "suite.toml").unlink()
    made.write({"scaling.toml": configuration()})
    made.commit()
    return made


def verdict(runner: Runner, *place: str) -> dict:
    return json.loads(runner.clone.joinpath(".runs", *place).read_text())


def worktrees(folder: Path) -> int:
    done = subprocess.run(["git", "worktree", "list"], cwd=folder, check=True, capture_output=True, text=True)
    return len(done.stdout.splitlines())


def test_a_night_finds_and_confirms_a_slowdown_of_the_program_and_an_unchanged_one_none(repository, tmp_path, wheels):
    runner = Runner(tmp_path, repository.path, wheels)
    base = repository.git("rev-parse", "--short=12", "HEAD")
    assert runner.run_gitlab("nightly") == 3, "the first night has nothing to compare with"
    unchanged = repeat_night(runner.clone / ".runs/results.sqlite", None, nights=4, spread=0.01)
    assert runner.run(f"python -m harness check --sweep {unchanged} --confirm") == 0

    repository.slow_down(SLOWER)
    runner.update()
    runner.gh.answer({"api repos/o/r/actions": {"artifacts": []}, "api repos/o/r": {"default_branch": "main"}})
    statuses = runner.run_github("github-nightly.yml", "nightly")
    assert statuses == {
        "Install the harness and what the program needs": 0,
        "Restore the store": 0,
        "Run the night": 1,
        "Write the summary": 0,
    }
    found = verdict(runner, "nightly", "verdict.json")
    head = repository.git("rev-parse", "--short=12", "HEAD")
    assert (found["commit"], found["base_commit"]) == (head, base)
    (step,) = [one for one in found["benchmarks"].values() if one["metric"] == "step"]
    assert step["status"] == "regressed"
    assert step["pairs_used"] >= 3
    assert step["low_pct"] > 0
    assert "regressed" in runner.summary.read_text()
    assert (worktrees(runner.clone), worktrees(repository.path)) == (1, 1)

    store = open_store(str(runner.clone / ".runs" / "results.sqlite"), create=False)
    environment = store.sweep(store.sweep_ids()[-1]).environment
    store.close()
    assert (environment.commit, environment.changed_files) == (head, False)
    assert environment.repository == str(runner.clone)
    assert environment.packages["scaling-harness"] == "0.1.0"


def test_a_pull_request_compares_what_the_install_command_makes_of_both_commits(repository, tmp_path, wheels):
    """The slower module lies where Python does not look: without the command neither side could import it."""
    install = f"[check]\ninstall = {json.dumps(INSTALL)}"
    text = (repository.path / "scaling.toml").read_text().replace("[check]", install)
    repository.write({"scaling.toml": text, "train.py": TRAIN, "library/theirs.py": MODULE.format(step_s=0.05)})
    repository.commit()
    repository.write({"library/theirs.py": MODULE.format(step_s=0.05 * SLOWER)})
    repository.commit()
    runner = Runner(tmp_path, repository.path, wheels)
    statuses = runner.run_github("github-pull-request.yml", "pairs")
    assert statuses["Run the pairs"] == 1
    assert "regressed" in runner.summary.read_text()
    assert list(runner.clone.glob(".runs/*/*/environment")) == []
    assert worktrees(runner.clone) == 1
