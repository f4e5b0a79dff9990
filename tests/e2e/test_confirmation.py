"""A slowdown that only more ranks have, found on real ranks: screened, confirmed by pairs, told as lost scaling."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import Harness
from tests.support.checkouts import Checkout
from tests.support.repeated_nights import repeat_night

STEP = "    def _finish(self) -> None:\n"
SLOWER_S = 0.01
ASKED = ("--backends", "ddp", "--workloads", "synthetic", "--ranks", "1,2", "--repeats", "3", "--window", "0.2")


@pytest.fixture
def nightly(tmp_path):
    checkout = Checkout(tmp_path)
    (tmp_path / "here").mkdir()
    harness = Harness(tmp_path / "here", checkout.path)
    harness.env |= checkout.env
    return harness, checkout


def sweep(harness: Harness) -> str:
    done = harness.run("sweep", harness.lean("warmup"), "--json", *ASKED)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["sweep"]


@pytest.mark.alone
def test_a_slower_exchange_is_confirmed_and_told_as_lost_scaling(nightly):
    harness, checkout = nightly
    repeat_night(harness.folder / ".runs/results.sqlite", sweep(harness), nights=6, spread=0.03)
    base = checkout.head()
    alone = '__import__("os").environ["WORLD_SIZE"] == "1"'
    checkout.edit("bench/workloads/training.py", STEP, f"{STEP}        {alone} or time.sleep({SLOWER_S})\n")
    head = checkout.commit()
    sweep(harness)
    files = ("--junit", "j.xml", "--markdown", "v.md", "--html", "v.html")
    done = harness.run("check", "--confirm", "--json", *files)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    (found,) = [finding for finding in document["findings"] if finding["status"] == "regressed"]
    assert (found["kind"], found["ranks"]) == ("lost scaling", [2])
    assert (document["commit"], document["base_commit"]) == (head, base)
    slower = next(one for name, one in document["benchmarks"].items() if name.endswith("ranks=2"))
    assert slower["status"] == "regressed"
    assert slower["pairs_used"] >= 3
    assert slower["low_pct"] > 0
    assert not any(one["status"] == "regressed" for name, one in document["benchmarks"].items() if "ranks=1" in name)
    assert document["extra_trials"] >= 6
    failures = ElementTree.parse(harness.folder / "j.xml").getroot().findall(".//failure")
    assert failures
    assert "lost scaling" in (harness.folder / "v.md").read_text()
    assert "lost scaling" in (harness.folder / "v.html").read_text()
    assert checkout.worktrees() == []
    harness.nothing_left()

    again = harness.run("check", "--confirm", "--json")
    assert json.loads(again.stdout)["extra_trials"] == document["extra_trials"], "the stored pairs are enough"
    checkout.edit("bench/workloads/training.py", "or time.sleep", "or time.time() or time.sleep")
    refused = harness.run("check", "--confirm")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "changed files" in refused.stderr
