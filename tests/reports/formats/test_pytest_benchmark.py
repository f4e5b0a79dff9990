"""Trials as the file of pytest-benchmark, read by its ``compare``."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from harness.cli.app import main
from reports.formats.exports.pytest_benchmark import stats_of
from tests.support.builders import make_case, make_trial
from tests.support.exports import compare, curve, rows_of, store_sweep


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30))
def test_statistics_are_pytest_benchmark_s_own(times_s):
    theirs = Stats()
    for time_s in times_s:
        theirs.update(time_s)
    ours = stats_of(times_s)
    assert ours.keys() - theirs.as_dict().keys() == {"data", "iterations"}
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "q1", "q3", "ops", "total"):
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 41, 42, 43])
def test_outliers_are_pytest_benchmark_s_own(rounds):
    rng, theirs = random.Random(rounds), Stats()
    times_s = [rng.lognormvariate(0, 1) for _ in range(rounds)]
    for time_s in times_s:
        theirs.update(time_s)
    for name in ("outliers", "stddev_outliers", "iqr_outliers", "ld15iqr", "hd15iqr"):
        assert stats_of(times_s)[name] == getattr(theirs, name), name


@pytest.mark.slow
def test_pytest_benchmark_compares_two_exports(tmp_path, exported):
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 3 died")
    output = exported([*curve(rounds=3), failed], "--out", str(tmp_path / "a.json"))
    assert "left out: synthetic · ddp/gloo · 8 ranks · strong: failed" in output.err
    exported(curve(rounds=1), "--out", str(tmp_path / "b.json"), name="s2", started_at="2026-01-02T00:00:00+00:00")
    done = compare(tmp_path, "a.json", "b.json", "--csv", "both.csv", "--sort", "fullname")
    assert (done.returncode, done.stderr.count("Failed")) == (0, 0), done.stderr
    assert "benchmark 'synthetic/strong': 6 tests" in done.stdout
    assert "synthetic · ddp/gloo · 4 ranks · strong" in done.stdout
    found = rows_of((tmp_path / "both.csv").read_text())
    assert [(row["name"], row["rounds"]) for row in found[:2]] == [
        (make_case(ranks=1).key, "3"),
        (make_case(ranks=1).key, "1"),
    ]
    assert [float(row["median"]) for row in found[:2]] == [0.101, 0.1]
    assert [row["param:ranks"] for row in found] == ["1", "1", "2", "2", "4", "4"]
    assert "Δ" in compare(tmp_path, "a.json", "b.json", "--between", "median").stdout


def test_pytest_benchmark_takes_one_sweep_a_file(tmp_path, capsys):
    store_sweep(tmp_path / "r.sqlite", curve(), name="a")
    store_sweep(tmp_path / "r.sqlite", curve(), name="b")
    store = ["--store", str(tmp_path / "r.sqlite")]
    assert main(["export", "a", "b", "--format", "pytest-benchmark", *store]) == 2
    assert "export each sweep to a file of its own" in capsys.readouterr().err
