"""Trials as Parquet, read by pandas."""

from __future__ import annotations

import sys

import pytest

from harness.cli.app import main
from reports.analysis.step_times import throughput_of
from reports.formats.trial_rows import TrialRow
from tests.support.builders import make_case, make_trial
from tests.support.exports import HOSTILE, curve


def test_parquet_round_trip_with_types(tmp_path, exported):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    import pandas

    target = tmp_path / "trials.parquet"
    broken = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    trials = [*curve(), broken]
    exported(trials, "--out", str(target))
    first = target.read_bytes()
    frame = pandas.read_parquet(target)
    assert list(frame.columns) == list(TrialRow.model_fields)
    assert list(frame["throughput"][:-1]) == [throughput_of(trial.ranks) for trial in trials[:-1]]
    assert frame["throughput"].isna().sum() == 1
    assert frame["reason"].iloc[-1] == HOSTILE
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    # Columns without a single value have a type all the same.
    assert (kinds["ranks"], kinds["gpu_energy_j_per_unit"], kinds["fault"]) == ("Int64", "Float64", "string")
    assert kinds["changed_files"] == "boolean"
    assert main(["export", "--store", str(tmp_path / "r.sqlite"), "--out", str(target)]) == 0
    assert target.read_bytes() == first


def test_without_pyarrow_one_line_names_the_remedy(tmp_path, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output = exported(curve(), "--out", str(tmp_path / "x.parquet"), status=2)
    assert output.err.count("\n") == 1
    assert "pyarrow is not installed; run `python -m pip install pyarrow`" in output.err
    assert not (tmp_path / "x.parquet").exists()
