"""Pairs of two identical commits, in several starts of the whole harness: how many series are called changed?

The pairs of one start share two processes that load the frameworks and fork all ranks, one for each side. Whatever
such a process brings with it (where its memory lies, the seed of its hashes) is the same in all pairs of the start,
and no number of them averages it out. The tests print how many series of how many starts were called changed, and the
standard deviation that starts add to that of single pairs.
"""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from harness.check.confirmation import NightPairs
from harness.store.ledger import PairTrial
from reports.regression.calibration import proportion
from reports.regression.night_series import paired_series
from tests.support.checkouts import Checkout

STARTS = 10
SUITE = """
backends = ["ddp"]
workloads = ["synthetic"]
ranks = [1, 2]
window_s = 0.25
telemetry = "off"
own_cost = false
roofline = false
decompose = false
"""

PairsBySeries = dict[str, list[tuple[float, ...]]]
"""ln(head ÷ base) of the pairs, for each start."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    made = Checkout(tmp_path_factory.mktemp("same"))
    made.git("commit", "--allow-empty", "--quiet", "--message", "the same code")
    (made.path.parent / "same.toml").write_text(SUITE)
    return made


@pytest.fixture(scope="module")
def results(tell_whole):
    answers: Counter[str] = Counter()
    pairs: PairsBySeries = defaultdict(list)
    yield answers, pairs
    total = sum(answers.values())
    if not total:
        return
    changed = proportion(answers["regressed"] + answers["improved"], total)
    tell_whole(
        f"{total} series of identical commits: {answers['regressed']} called slower, {answers['improved']} faster "
        f"({100 * changed.low:.2g}–{100 * changed.high:.2g} %); {dict(answers)}"
    )
    for name, starts in pairs.items():
        between, within = standard_deviations(starts)
        tell_whole(
            f"{name}: standard deviation of a pair {100 * within:.2f} %, added by a start {100 * between:.2f} % "
            f"({len(starts)} starts, {sum(map(len, starts))} pairs)"
        )


@pytest.mark.parametrize("start", range(STARTS))
def test_identical_commits(checkout, results, start):
    answers, pairs = results
    store = checkout.path.parent / f"start{start}.sqlite"
    command = ("check", "--pairs-only", "--suite", "same.toml", "--base-rev", "HEAD~1", "--store", store.name, "--json")
    ran = subprocess.run(
        [sys.executable, "-m", "harness", *command],
        cwd=store.parent,
        env=checkout.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1, 3), ran.stderr
    answers.update(verdict["status"] for verdict in json.loads(ran.stdout)["verdicts"])
    for name, logs in pairs_of(store).items():
        pairs[name].append(logs)


def pairs_of(store) -> dict[str, tuple[float, ...]]:
    with sqlite3.connect(store) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM pairs")]
    night = NightPairs()
    cases = {}
    for body in bodies:
        pair = PairTrial.model_validate_json(body)
        cases[pair.key] = pair.trial.case
        night.add(pair)
    series = paired_series(tuple(cases.values()), night.numbers)
    return {f"{subject.metric} at {subject.ranks}": item.pairs for subject, item in series if len(item.pairs) > 1}


def standard_deviations(starts: list[tuple[float, ...]]) -> tuple[float, float]:
    """What a start adds, and that of a pair within its start (analysis of variance with unequal group sizes)."""
    groups = [np.asarray(logs) for logs in starts]
    counts = np.asarray([len(group) for group in groups], dtype=float)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / max(counts.sum() - len(groups), 1)
    if len(groups) < 2:
        return math.nan, float(np.sqrt(within))
    grand = np.concatenate(groups).mean()
    between = sum(len(group) * (group.mean() - grand) ** 2 for group in groups) / (len(groups) - 1)
    size = (counts.sum() - (counts**2).sum() / counts.sum()) / (len(groups) - 1)
    return float(np.sqrt(max(between - within, 0) / size)), float(np.sqrt(within))
