"""The micro-benchmarks: their numbers become series of a night, and what fails is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.check.micro_benchmarks import run_once
from harness.importers.pytest_benchmark import read_pytest_benchmark
from tests.e2e.conftest import ROOT

TOY, MLP, ONE, FOUR, ALLREDUCE = (
    f"suites/test_micro.py::{test}"
    for test in (
        *("test_synthetic_step[toy]", "test_synthetic_step[mlp]"),
        *("test_sample_order[1]", "test_sample_order[4]", "test_allreduce[4KiB]"),
    )
)


@pytest.fixture
def broken_tree(tmp_path) -> Path:
    """A checkout in which one model can't be built and another learns nothing."""
    tree = tmp_path / "tree"
    for package in ("bench", "harness", "reports"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = tree / "bench" / "workloads" / "synthetic.py"
    text = source.read_text().replace("nn.Linear(10, 10), nn.MSELoss()", "no_such_name")
    source.write_text(text.replace("torch.randn(samples, 784)", "torch.full((samples, 784), torch.nan)"))
    return tree


def test_what_a_tree_gives_becomes_series_of_a_night_and_what_breaks_in_it_is_named(harness, broken_tree):
    run = run_once(harness.folder / "micro" / "0.json", only=[TOY, MLP, ONE, FOUR, ALLREDUCE], tree=broken_tree)
    assert (run.reason, run.failed.keys()) == (None, {TOY, MLP})
    assert "no_such_name" in run.failed[TOY]
    assert "the loss became nan" in run.failed[MLP], "its steps were timed, and count for nothing"
    assert [path.name for path in (harness.folder / "micro").iterdir()] == ["0.json"]
    done = harness.run("ingest", str(run.file), "--night", "n", "--store", "r.sqlite", "--json")
    document = json.loads(done.stdout)
    assert (document["nights"], document["notes"]) == ({"n": {"benchmarks": 3, "added": 3, "known": 0}}, [])
    runs = {found.benchmark: found for found in read_pytest_benchmark(run.file)}
    assert runs.keys() == {ONE, FOUR, ALLREDUCE}
    assert {"torch", "numpy", "cpu"} <= runs[ONE].place.keys()
    assert all(10 <= len(run.seconds) <= 300 for run in runs.values())


def test_one_that_takes_too_long_is_ended_and_says_so(tmp_path):
    run = run_once(tmp_path / "0.json", only=[TOY], timeout_s=0.5)
    assert run.file is None
    assert run.reason.startswith("took longer than 0.5 s")
