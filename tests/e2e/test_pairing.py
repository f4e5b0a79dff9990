"""Head and base in turn on real ranks: each runs its own code, and nothing of it is left afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from bench.core.records import RankRecord, Trial
from tests.e2e.conftest import Harness
from tests.support.builders import make_case
from tests.support.checkouts import Checkout

SLOWER_S = 0.02
STEP = "    def _finish(self) -> None:\n"
SETTINGS = 'settings={"threads"'

CONFIRM = """
import json, sys
from pathlib import Path
from bench.core.case import Case
from harness.cli.output import stderr_console
from harness.check.interleaving import interleave, open_sides
from harness.sweep.progress import PairProgress

rev, pairs, cases = sys.argv[1], int(sys.argv[2]), [Case(**case) for case in json.loads(sys.argv[3])]
with open_sides(rev, cases, Path("pairs"), "e") as (head, base), PairProgress(stderr_console(), 2 * pairs) as watcher:
    for found in interleave("night", cases, head, base, 0, pairs, watcher):
        print(found.model_dump_json(), flush=True)
"""


class Confirming(Harness):
    """Runs pairs of a checkout's commits, from another folder."""

    def __init__(self, checkout: Checkout) -> None:
        super().__init__(checkout.path.parent / "here", checkout.path)
        self.folder.mkdir()
        self.checkout = checkout
        self.env |= checkout.env

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", CONFIRM, *arguments],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def pairs(self, rev: str, pairs: int, case: str) -> list[dict]:
        done = self.run(rev, str(pairs), case)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def confirming(tmp_path):
    return Confirming(Checkout(tmp_path))


def a_case(**changes) -> str:
    lean = {"window_s": 0.2, "telemetry": "off", "affinity": "none"}
    return json.dumps([make_case(**{**lean, **changes}).model_dump(mode="json")])


def trials_of(found: list[dict], side: str) -> list[Trial]:
    return [Trial.model_validate(one["trial"]) for one in found if one["side"] == side]


def ranks_of(found: list[dict], side: str) -> list[RankRecord]:
    trials = trials_of(found, side)
    assert {trial.outcome for trial in trials} == {"ok"}, [trial.reason for trial in trials]
    return [rank for trial in trials for rank in trial.ranks]


# Under mpirun ranks are found otherwise; one is enough, since two that spin may starve each other.
@pytest.mark.parametrize(("backend", "transport", "ranks", "pairs"), [("ddp", "gloo", 2, 2), ("horovod", "mpi", 1, 1)])
def test_each_side_runs_its_own_code_in_turn(confirming, backend, transport, ranks, pairs):
    checkout = confirming.checkout
    checkout.edit("bench/rank/loop.py", SETTINGS, 'settings={"code": __import__("bench").__file__, "threads"')
    base = checkout.commit()
    checkout.edit("bench/workloads/training.py", STEP, f"{STEP}        time.sleep({SLOWER_S})\n")
    head = checkout.commit()
    found = confirming.pairs("HEAD~1", pairs, a_case(backend=backend, transport=transport, ranks=ranks))

    turns = [(0, "head"), (0, "base"), (1, "base"), (1, "head")]
    assert [(one["pair"], one["side"]) for one in found] == turns[: 2 * pairs]
    assert {one["side"]: one["commit"] for one in found} == {"head": head, "base": base}
    ours, theirs = ranks_of(found, "head"), ranks_of(found, "base")
    assert {rank.settings["code"] for rank in ours} == {f"{checkout.path}/bench/__init__.py"}
    assert all(rank.settings["code"].startswith(f"{checkout.temporary}/scaling-base-") for rank in theirs)
    assert min(min(rank.step_s) for rank in ours) >= SLOWER_S > min(min(rank.step_s) for rank in theirs)
    assert all(rank.phases is None for rank in ours + theirs)
    confirming.nothing_left()
    assert checkout.worktrees() == []


def test_a_base_that_dies_costs_its_own_trials_and_not_for_ever(confirming):
    checkout = confirming.checkout
    begin = "    start = partial(start_trial, case, round_number, site, backend, sweep_folder)"
    checkout.edit("harness/sweep/runner.py", begin, f"    __import__('os')._exit(3)\n{begin}")
    checkout.commit()
    checkout.git("revert", "--no-edit", "HEAD")
    found = confirming.pairs("HEAD~1", 3, a_case(ranks=1, backend="single", transport="any"))
    assert [(one["side"], one["trial"]["outcome"]) for one in found] == [
        ("head", "ok"),
        ("base", "failed"),
        ("base", "failed"),
        ("head", "ok"),
    ]
    assert all("ended with status 3" in trial.reason for trial in trials_of(found, "base"))
    confirming.nothing_left()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_pairs_that_are_broken_off_leave_nothing(confirming, sign):
    process = confirming.start("HEAD", "50", a_case())
    for _ in range(2):
        assert process.stdout.readline(), process.communicate()
    assert len(confirming.checkout.worktrees()) == 2
    process.send_signal(sign)
    process.communicate(timeout=30)
    confirming.nothing_left(within_s=15)
    if sign == signal.SIGKILL:
        # Nobody was left to clear up: the next one does.
        assert confirming.checkout.worktrees() != []
        confirming.checkout.run("from harness.check.source_trees import checked_out\nwith checked_out('HEAD'): pass")
    assert confirming.checkout.worktrees() == []


CONFIRM_MICRO = """
import sys
from pathlib import Path
from harness.check.micro_confirmation import interleave_micro
from harness.check.source_trees import checked_out, head_tree

with checked_out("HEAD~1") as base:
    for found in interleave_micro(sys.argv[1:], head_tree(), base, Path("micro"), 0, 1):
        print(found.model_dump_json())
"""


def test_micro_benchmarks_are_paired_too(confirming):
    checkout = confirming.checkout
    checkout.edit(
        "bench/workloads/training.py", "    usable = len(order)", f"    time.sleep({SLOWER_S})\n    usable = len(order)"
    )
    checkout.commit()
    name = "suites/test_micro.py::test_sample_order[1]"
    done = checkout.run(CONFIRM_MICRO, name)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["benchmark"], found["pair"], found["reason"]) == (name, 0, "")
    assert found["head_s"] >= SLOWER_S > found["base_s"]
    assert checkout.worktrees() == []
