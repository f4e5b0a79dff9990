"""A side runs the code of its tree or gives the reason why it cannot; errors of that code never raise here."""

from __future__ import annotations

import os
import re

import pytest

from harness.check.confirmation import NightPairs, run_until_decided
from harness.check.interleaving import pair_schedule, side_order, timing_only_case
from harness.check.sides import (
    PairContext,
    Side,
    SideProcess,
    SideProcessLost,
    compact_case,
    describe_foreign_packages,
    read_trial,
    side_environment,
)
from harness.check.source_trees import SourceTree
from reports.regression.subjects import Subject
from reports.regression.values import MetricSeries, Verdict
from tests.support.builders import make_case, make_trial
from tests.support.checkouts import ROOT

CASE = """
class Case:
    backend = "any"
    model_validate = classmethod(lambda cls, fields: cls())
"""
REGISTRY = """
class Backend:
    preload = ()
load_backend = lambda name: Backend()
"""
SITE = """
class SITE:
    warm = lambda modules: None
"""
RUN = """
class Trial:
    def model_dump_json(self): return {answer!r}
def run_trial(case, number, site, backend, folder, environment): return Trial()
"""


LAYOUTS = {
    "rooms": {
        "case": "bench/core/case.py",
        "worker": "bench/rank/worker.py",
        "registry": "bench/plugins/registry.py",
        "runner": "harness/sweep/runner.py",
        "site": "harness/sites/local/site.py",
    },
    "before the rooms": {
        "case": "bench/case.py",
        "worker": "bench/worker.py",
        "registry": "bench/registry.py",
        "runner": "harness/run.py",
        "site": "harness/sites/local.py",
    },
}
"""Where a tree has what a side calls: today's commits, and those up to 9e9153b."""


@pytest.fixture(params=LAYOUTS)
def side(tmp_path, request):
    """Makes the side of a minimal tree, in either layout; ``side({"runner": "…"})`` changes a file of it."""
    sides = []
    paths = LAYOUTS[request.param]

    def make(files: dict[str, str | None], answer: str = "") -> Side:
        small = {
            "bench/__init__.py": "",
            "reports/__init__.py": "",
            "harness/__init__.py": "",
            "harness/sites/__init__.py": "",
            "worker": "",
            "case": CASE,
            "registry": REGISTRY,
            "site": SITE,
            "runner": RUN.format(answer=answer),
        }
        for name, text in {**small, **files}.items():
            if text is not None:
                path = tmp_path / "tree" / paths.get(name, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        tree = SourceTree(path=tmp_path / "tree", commit="abc123")
        sides.append(Side("base", tree, PairContext(tmp_path / "logs", "e", ("any",))))
        return sides[-1]

    yield make
    for made in sides:
        made.__exit__()


@pytest.mark.slow
def test_a_trial_of_the_tree_comes_back(side):
    case = make_case()
    # What the tree's code prints is in nobody's way.
    noisy = side({"worker": "print('{}')"}, answer=make_trial(case, 3).model_dump_json())
    trial = noisy.measure(case, 3)
    assert trial == make_trial(case, 3)
    assert noisy.unavailable_reason is None
    assert "{}" in noisy.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"worker": "def (\n"}, r"SyntaxError: invalid syntax \(.*worker.py, line 1\)"),
        ({"worker": "import bench.gone"}, "ModuleNotFoundError: No module named 'bench.gone'"),
        ({"worker": "import os; os._exit(3)"}, "ended with status 3"),
        ({"site": ""}, "AttributeError: .* has no attribute 'SITE'"),
    ],
)
def test_a_tree_that_cannot_be_run_says_why(side, files, reason):
    broken = side(files)
    trial = broken.measure(make_case(), 0)
    assert trial.outcome == "failed"
    assert trial.reason == broken.unavailable_reason
    assert trial.reason.startswith("base abc123 can't be run: ")
    assert re.search(reason, trial.reason)


@pytest.mark.slow
def test_a_package_from_elsewhere_is_noticed(side, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lacking = side({"reports/__init__.py": None})
    trial = lacking.measure(make_case(), 0)
    assert trial.reason == f"base abc123 can't be run by itself: reports came from {ROOT}/reports"
    assert lacking.unavailable_reason == trial.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("rubbish", "its trial can't be read here (its trial: invalid json"),
        (make_trial(make_case()).model_copy(update={"round": "x"}).model_dump_json(warnings=False), "(round: "),
        (make_trial(make_case(window_s=3.0)).model_dump_json(), "it measures another case (window_s differ)"),
    ],
)
def test_a_trial_that_is_none_is_a_failed_one(side, answer, reason):
    trial = side({}, answer=answer).measure(make_case(), 0)
    assert trial.outcome == "failed"
    assert trial.reason.startswith("base abc123 can't be run: ")
    assert reason in trial.reason


@pytest.mark.slow
def test_an_error_of_one_trial_is_the_reason_of_that_one(side):
    refusing = side({"runner": "def run_trial(case): pass"})
    trial = refusing.measure(make_case(), 0)
    assert trial.reason.startswith("base abc123: TypeError: run_trial() takes 1 positional argument")
    assert any("TypeError" in line for line in trial.log_tail)
    assert refusing.unavailable_reason is None


@pytest.mark.slow
def test_a_side_that_hangs_is_ended(side):
    hanging = side({"worker": "import time; time.sleep(600)"})
    hanging.folder.mkdir(parents=True)
    child = SideProcess(hanging.tree, hanging.log)
    with pytest.raises(SideProcessLost, match=r"gave no answer within 0\.5 s"):
        child.ask(0.5, do="begin", site="local", backends=[])
    child.end()
    assert child.process.returncode is not None


def test_the_tree_comes_before_all_else(tmp_path):
    tree = SourceTree(path=tmp_path, commit="c")
    environment = side_environment(tree, {"PYTHONPATH": "/other", "HOME": "/h"})
    ours = {"PYTHONPATH": f"{tmp_path}{os.pathsep}/other", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    assert environment == {**ours, "HOME": "/h"}
    assert side_environment(tree, {})["PYTHONPATH"] == str(tmp_path)
    assert side_environment(tree, {"OMP_PROC_BIND": "true", "RANK": "1", "HOME": "/h"}) == side_environment(
        tree, {"HOME": "/h"}
    ), "an older tree does not remove them by itself"
    assert describe_foreign_packages({"bench": f"{tmp_path}/bench"}, tmp_path) == ""
    assert "bench came from /other/bench" in describe_foreign_packages({"bench": "/other/bench"}, tmp_path)


def test_packages_of_a_user_s_tree_come_after_the_harness_and_before_what_is_installed(tmp_path):
    (tmp_path / "src").mkdir()
    tree = SourceTree(path=ROOT, commit="c", checkout=tmp_path)
    environment = side_environment(tree, {"PYTHONPATH": "/other", "PATH": "/bin"}, tmp_path / "environment" / "bin")
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), str(tmp_path), f"{tmp_path}/src", "/other"]
    assert environment["PATH"] == f"{tmp_path}/environment/bin{os.pathsep}/bin"
    assert environment["VIRTUAL_ENV"] == f"{tmp_path}/environment"


def test_an_older_tree_is_told_only_what_differs_from_the_defaults():
    document = compact_case(make_case(window_s=0.5))
    assert document["window_s"] == 0.5
    assert "timeout_s" not in document
    assert read_trial(make_trial(make_case()).model_dump_json(), make_case())[1] == ""


def test_pairs_go_round_the_cases_and_take_turns():
    cases = [make_case(ranks=ranks) for ranks in (1, 2, 4, 8)]
    seen = list(pair_schedule(cases, 3, 4, seed=1))
    assert [pair for pair, _ in seen] == [3] * 4 + [4] * 4 + [5] * 4 + [6] * 4
    rounds = [tuple(case.ranks for pair, case in seen if pair == number) for number in (3, 4, 5, 6)]
    assert all(sorted(order) == [1, 2, 4, 8] for order in rounds)
    assert len(set(rounds)) > 1
    # Calling again for the pairs that come next continues the same order.
    assert seen[4:] == list(pair_schedule(cases, 4, 3, seed=1))
    assert [side_order(pair)[0] for pair in range(4)] == ["head", "base", "head", "base"]


def test_pairs_measure_nothing_beside_their_steps():
    night = make_case(own_cost=True, roofline=True, decompose=True, adapt_window=True)
    pair = timing_only_case(night, decompose=False)
    assert pair == night.model_copy(
        update={"own_cost": False, "roofline": False, "decompose": False, "adapt_window": False}
    )
    assert "adapt_window" not in compact_case(pair), "an older tree does not know it"
    assert timing_only_case(night, decompose=True).decompose
    assert timing_only_case(night, decompose=False).key == night.key


RUN_WITH_PROCESS = """
import json, os
class Trial:
    def __init__(self, case): self.case = case
    def model_dump_json(self): return json.dumps({{**json.loads({answer!r}), "environment": str(os.getpid())}})
def run_trial(case, number, site, backend, folder, environment): return Trial(case)
"""


class Watcher:
    def begins(self, case, pair, side):
        pass

    def ends(self, pair_trial):
        pass


@pytest.mark.slow
def test_pairs_are_spread_over_several_starts_of_both_sides(side):
    """What a side's process has by chance is the same in all its pairs, so no two evaluations share it."""
    case = timing_only_case(make_case(), decompose=False)
    answer = RUN_WITH_PROCESS.format(answer=make_trial(case, 0).model_dump_json())
    head, base = side({"runner": answer}), side({"runner": answer})
    head.name = "head"
    subject = Subject(case.key, "step", case.curve, case.key, 1)
    pairs, trials = NightPairs(), []

    def judge(numbers):
        used = len(numbers["head"].get(case.key, {}))
        wanted = next((look for look in (2, 3, 4, 6) if look > used), 0)
        verdict = Verdict(name=case.key, status="suspect" if wanted else "pass", pairs_used=used, pairs_wanted=wanted)
        return [(subject, MetricSeries(name=case.key), verdict)]

    def add(pair_trial):
        pairs.add(pair_trial)
        trials.append(pair_trial)

    ((_, _, verdict),) = run_until_decided("n", {case.key: case}, head, base, pairs, judge, add, Watcher())
    assert (verdict.status, verdict.pairs_used) == ("pass", 6)
    processes = {(one.side, one.pair): one.trial.environment for one in trials}
    assert len(set(processes.values())) == 6, "three starts of two sides"
    for name in ("head", "base"):
        blocks = [[processes[name, number] for number in block] for block in ((0, 1), (2, 3), (4, 5))]
        assert [len(set(block)) for block in blocks] == [1, 1, 1]
