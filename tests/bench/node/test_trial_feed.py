"""An agent that is fed trials: which it answers, and with which it ends. On real ranks: tests/e2e."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.exit_report import NodeReport
from bench.node.trial_feed import FedTrial
from tests.support.builders import make_case
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

CASE = make_case(ranks=2, ranks_per_node=1)
ALLOCATION = {"SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NODELIST": "n[1-4]"}


def fed(folder: Path, *trials: FedTrial) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.node.agent", "--feed"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ALLOCATION},
        input="".join(f"{trial.model_dump_json(exclude_defaults=True)}\n" for trial in trials),
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_a_node_without_a_part_says_nothing_and_a_trial_that_fails_is_the_last(tmp_path):
    for name in ("smaller", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "case.json").write_text(CASE.model_dump_json())
    broken = FedTrial(name="broken", out="broken", nodes=2, variables={"SLURM_STEP_NUM_NODES": "two"})
    done = fed(tmp_path, FedTrial(name="smaller", out="smaller", nodes=1), broken, broken)
    assert done.stdout.splitlines() == ["scaling-ended broken failed"], done.stderr
    assert done.returncode == 1
    report = NodeReport.model_validate_json((tmp_path / "broken" / "node-0.json").read_text())
    assert report.problem.startswith("the variables beside SLURM_NODEID=1 can't be read")
    assert not list((tmp_path / "smaller").glob("node-*"))


def test_files_of_a_fresh_folder_come_back_before_the_answer(tmp_path):
    trial = FedTrial(name="t", out=str(tmp_path / "fresh"), fresh=True, case=CASE, variables={"SLURM_NODEID": "x"})
    *transferred, answer = fed(tmp_path, trial).stdout.splitlines()
    assert [json.loads(line.partition(" ")[2])["file"] for line in transferred] == ["node-0.json"]
    assert answer == "scaling-ended t failed"
    assert not (tmp_path / "fresh").exists()
