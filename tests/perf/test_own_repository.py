"""Pairs of commits of a user's program whose steps are counted work: how often is a slowdown of 10 % found, and how
often is one that is none?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.user_repositories import SUITE, UserRepository

TRIES = int(os.environ.get("TRIES", "10"))
WORK = 400_000
TRAIN = f"""
import time

WORK = {WORK}

while True:
    began, total = time.perf_counter(), 0
    for number in range(WORK):
        total += number & 3
    print(f"speed: {{1 / (time.perf_counter() - began):.3f}} img/s", flush=True)
"""


@pytest.mark.parametrize("slower", [1.0, 1.1], ids=["unchanged", "slower"])
def test_pairs_of_a_program(benchmark, tell, tmp_path, slower):
    repository = UserRepository(tmp_path / "own", {"train.py": TRAIN, "suite.toml": SUITE})
    text = TRAIN.replace(f"WORK = {WORK}", f"WORK = {round(WORK * slower)}")
    repository.write({"train.py": text + "# another commit\n"})
    repository.commit()
    command = [sys.executable, "-m", "harness", "check", "--pairs-only", "--suite", "suite.toml"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found: list[tuple[int, str, int]] = []

    def check() -> None:
        done = subprocess.run(
            [*command, "--base-rev", "HEAD~1", "--json"],
            cwd=repository.path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        document = json.loads(done.stdout)
        (step,) = [one for one in document["benchmarks"].values() if one["metric"] == "step"]
        found.append((done.returncode, step["status"], step["pairs_used"]))

    benchmark.pedantic(check, rounds=TRIES, iterations=1)
    benchmark.extra_info |= {"found": found}
    regressed = sum(code == 1 for code, _, _ in found)
    tell(
        f"{regressed} of {TRIES} comparisons of a program {slower:g}× as slow regressed; "
        f"{sorted({status for _, status, _ in found})}, pairs: {sorted(pairs for _, _, pairs in found)}"
    )
