"""What is saved while a sweep runs, or between its interruption and its end, changes nothing of what it measures."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from bench.core.records import Trial
from bench.host.network import free_port
from bench.host.running_code import sources_digest
from harness.sites.base.remote import UnstartedJob, gather_result
from harness.sites.base.running_trial import RunningTrial
from harness.store.ledger import PairTrial
from harness.sweep.assessment import assess_trial
from tests.e2e.conftest import Harness
from tests.support.builders import make_case
from tests.support.checkouts import Checkout

STEP = "    def _finish(self) -> None:\n"
SLEEP_S = 1.0
LOOPBACK = "127.0.0.1"
PAUSE = f"        __import__('time').sleep({SLEEP_S})\n"
PLUGIN = """
from bench.workloads.synthetic import Synthetic
from helper.step import SHAPE

class Mine(Synthetic):
    name = "mine"
    summary = "with a helper of its own"
    kind = Synthetic.kind

    def build(self, case, session):
        from helper import late
        print("late", late.VALUE, flush=True)
        return super().build(case, session)

WORKLOAD = Mine()
"""

PAIRS = """
import sys
from pathlib import Path
from harness.planning.source_copy import run_from_copy
run_from_copy()
from bench.core.case import Case
from harness.cli.output import stderr_console
from harness.check.interleaving import interleave, open_sides
from harness.sweep.progress import PairProgress

case = Case.model_validate_json(sys.argv[1])
with open_sides("HEAD~1", [case], Path("pairs"), "e") as (head, base), PairProgress(stderr_console(), 4) as watcher:
    for found in interleave("night", [case], head, base, 0, 2, watcher):
        print(found.model_dump_json(), flush=True)
        head.end_process()
"""


class Editing(Harness):
    """A harness over a checkout of its own, which the test edits while it runs."""

    def __init__(self, checkout: Checkout) -> None:
        super().__init__(checkout.path.parent / "here", checkout.path)
        self.folder.mkdir()
        self.checkout = checkout
        self.env |= checkout.env
        self.begun: list[subprocess.Popen] = []

    def begin(self, *arguments: str, repeats: int = 3) -> subprocess.Popen:
        """Start a sweep of one case; returns when its first trial is stored."""
        chosen = ("--backends", "single", "--ranks", "1", "--repeats", str(repeats), "--steps", "5", "--warmup", "1")
        workloads = () if "--workloads" in arguments else ("--workloads", "synthetic")
        process = self.start("sweep", self.lean(), *chosen, *workloads, "--telemetry", "off", *arguments)
        self.begun.append(process)
        self.until_first_trial(process)
        return process

    def until_first_trial(self, process: subprocess.Popen) -> None:
        while process.poll() is None and not self.trials():
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()

    def trials(self) -> list[Trial]:
        store = self.folder / ".runs" / "results.sqlite"
        if not store.exists():
            return []
        with sqlite3.connect(store) as connection:
            tables = [name for (name,) in connection.execute("select name from sqlite_master")]
            bodies = connection.execute("select body from trials order by round") if "trials" in tables else ()
            return [Trial.model_validate_json(body) for (body,) in bodies]

    def sweep_record(self) -> dict:
        with sqlite3.connect(self.folder / ".runs" / "results.sqlite") as connection:
            ((body,),) = connection.execute("select body from sweeps")
        return json.loads(body)


@pytest.fixture
def editing(tmp_path):
    editing = Editing(Checkout(tmp_path))
    yield editing
    for process in editing.begun:
        process.kill()
        process.communicate()


def slow_down(checkout: Checkout) -> None:
    """Make each training step take a second more."""
    checkout.edit("bench/workloads/training.py", STEP, STEP + PAUSE)


def fastest_steps(trials: list[Trial]) -> list[float]:
    """That of each trial: a busy machine delays some steps of a trial, and not all of them."""
    return [min(step for record in trial.ranks for step in record.step_s) for trial in trials]


def test_a_running_sweep_measures_what_it_began_with(editing):
    (editing.folder / "helper").mkdir()
    (editing.folder / "helper" / "__init__.py").touch()
    (editing.folder / "helper" / "step.py").write_text("SHAPE = 1\n")
    (editing.folder / "helper" / "late.py").write_text("VALUE = 1\n")
    (editing.folder / "mine.py").write_text(PLUGIN)
    editing.env["PYTHONPATH"] += os.pathsep + str(editing.folder)
    commit = editing.checkout.head()
    process = editing.begin("--plugin", "mine.py", "--workloads", "synthetic,mine")
    slow_down(editing.checkout)
    source = editing.checkout.path
    (source / "bench" / "backends" / "single.py").unlink()
    (source / "harness" / "__main__.py").write_text("a mistake\n")
    (source / "reports" / "page" / "plotly_charts.py").write_text("a mistake\n")
    (source / "suites" / "quick.toml").write_text("a mistake\n")
    (editing.folder / "helper" / "late.py").write_text("raise RuntimeError\n")
    (editing.folder / "mine.py").write_text("a mistake\n")
    (editing.folder / "lean.toml").write_text("a mistake\n")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    trials = editing.trials()
    assert [trial.outcome for trial in trials] == ["ok"] * 6
    assert max(fastest_steps(trials)) < SLEEP_S
    record = editing.sweep_record()
    assert {trial.sources for trial in trials} == {record["sources"]["digest"]}
    assert (record["environment"]["commit"], record["environment"]["changed_files"]) == (commit, False)
    assert list(editing.checkout.temporary.iterdir()) == []


def test_a_resumed_sweep_runs_what_it_began_with_or_is_refused(editing):
    process = editing.begin()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    before = (editing.checkout.path / "bench" / "workloads" / "training.py").read_text()
    slow_down(editing.checkout)
    refused = editing.run("sweep", "--resume")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "bench/workloads/training.py changed since sweep " in refused.stderr
    (editing.checkout.path / "bench" / "workloads" / "training.py").write_text(before)
    resumed = editing.run("sweep", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len({trial.sources for trial in editing.trials()}) == 1
    slow_down(editing.checkout)
    editing.begin(repeats=1).communicate(timeout=60)
    changed = editing.trials()
    assert len({trial.sources for trial in changed}) == 2


def test_both_sides_of_pairs_run_what_they_began_with(editing):
    checkout = editing.checkout
    checkout.edit("bench/workloads/training.py", STEP, f"{STEP}        pass\n")
    checkout.commit()
    digests = {"head": sources_digest(checkout.path / "bench"), "base": sources_digest()}
    case = make_case(backend="single", transport="none", ranks=1, steps=3, warmup=1, telemetry="off", verify_steps=1)
    command = [sys.executable, "-c", PAIRS, case.model_dump_json()]
    process = subprocess.Popen(
        command, cwd=editing.folder, env=editing.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    editing.begun.append(process)
    first = process.stdout.readline()
    slow_down(checkout)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    pairs = [PairTrial.model_validate_json(line) for line in [first, *out.splitlines()]]
    assert [(one.side, one.trial.sources) for one in pairs] == [
        (side, digests[side]) for side in ("head", "base", "base", "head")
    ]
    assert max(fastest_steps([one.trial for one in pairs])) < SLEEP_S
    assert checkout.worktrees() == []


def test_a_night_runs_what_it_began_with(editing):
    source = editing.checkout.path
    suite = editing.folder / editing.lean()
    choice = 'backends = ["single"]\nworkloads = ["synthetic"]\nranks = [1]\nrepeats = 2\nsteps = 3\n'
    suite.write_text(f'{choice}telemetry = "off"\n{suite.read_text()}')
    process = editing.start("nightly", "lean.toml", "--out", "night", "--no-micro", "--no-confirm")
    editing.begun.append(process)
    editing.until_first_trial(process)
    slow_down(editing.checkout)
    (source / "harness" / "cli" / "check.py").write_text("a mistake\n")
    (source / "harness" / "publish" / "index.py").unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err  # the first night has nothing to be compared with
    assert "crashed" not in err
    assert max(fastest_steps(editing.trials())) < SLEEP_S
    assert {"verdict.json", "report.html", "index.html"} <= {path.name for path in (editing.folder / "night").iterdir()}


def test_a_node_with_other_sources_fails_its_trial(editing, tmp_path):
    """A node of any site has a package ``bench`` of its own: an image, a host's checkout."""
    editing.checkout.edit("bench/workloads/training.py", STEP, f"{STEP}        pass\n")
    node = sources_digest(editing.checkout.path / "bench")
    case = make_case(backend="single", transport="none", ranks=1, steps=3, warmup=1, telemetry="off", verify_steps=1)
    (tmp_path / "case.json").write_text(case.model_dump_json())
    place = {
        "SCALING_NODE": "0",
        "SCALING_NODES": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port("127.0.0.1")),
    }
    command = [sys.executable, "-m", "bench.node.agent", "--case", "case.json", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=editing.env | place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    running = RunningTrial(UnstartedJob(""), tmp_path / "out", "2026-01-01T00:00:00+00:00", time.time())
    trial = assess_trial(running, gather_result(tmp_path / "out", case), case, 0, "e")
    assert (trial.outcome, trial.sources) == ("failed", node)
    assert trial.reason.startswith("rank 0 on ")
    assert f" ran other sources ({node}) than this command's ({sources_digest()}): " in trial.reason
