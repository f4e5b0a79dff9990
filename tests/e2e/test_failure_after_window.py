"""Real ranks on which a measurement after the window fails: the number stands, and its parts have reasons."""

from __future__ import annotations

import pytest

WORKLOAD = """
import os
from bench.plugins.registry import load_workload

class Fragile(type(load_workload("synthetic"))):
    name, summary = "fragile", "fails after its window"

    def build(self, case, session):
        work = super().build(case, session)
        if session.rank == 1:
            def save():
                if {kill}:
                    os.kill(os.getpid(), 9)
                raise ZeroDivisionError("after the window")
            work.save = save
        return work

WORKLOAD = Fragile()
"""


@pytest.mark.parametrize(
    ("kill", "seen"),
    [
        (False, "decomposition: rank 1: ZeroDivisionError: after the window"),
        (True, "after the measured window: rank 1 was killed by SIGKILL in the decomposition"),
    ],
    ids=["an exception", "SIGKILL"],
)
def test_a_rank_that_fails_after_its_window_costs_no_trial(harness, kill, seen):
    (harness.folder / "fragile.py").write_text(WORKLOAD.format(kill=kill))
    arguments = ("--plugin", "fragile.py", "--workloads", "fragile", "--backends", "ddp", "--ranks", "2")
    (cell,) = harness.sweep(*arguments, "--repeats", "1", "--window", "0.3")["cells"]
    assert (cell["outcome"], cell["reason"]) == ("ok", None)
    assert cell["throughput"]["value"] > 0
    assert "not_measured" in cell["flags"]
    assert seen in {condition["seen"] for condition in cell["conditions"]}
    assert cell["decomposition"] is None
    assert cell["decomposition_reason"].startswith("rank ")
    harness.nothing_left()
