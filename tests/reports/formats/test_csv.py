"""Trials as CSV, and ``fit`` on the exported file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.case import Fault
from harness.cli.app import main
from reports.formats.csv_cells import unescape_cell
from reports.formats.exports.csv import trials_csv
from reports.formats.trial_rows import TrialRow
from tests.support.builders import make_case, make_trial
from tests.support.exports import curve, rows_of


def test_fit_reads_the_export(tmp_path, exported, capsys):
    broken = [make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason="rank 3 died")]
    crowded = curve(counts=(16,), rounds=1, flags=("oversubscribed",))
    slowed = curve(counts=(2,), rounds=1, fault=Fault(kind="slow", rank=1, ms=9), flags=("injected",))
    target = tmp_path / "trials.csv"
    exported([*curve(workload_options={"model": "toy"}), *curve(), *broken, *crowded, *slowed], "--out", str(target))
    assert main(["fit", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == {"outcome failed": 1, "oversubscribed": 1, "injected": 1}
    assert [one["curve"] for one in found["curves"]] == [
        make_case(workload_options={"model": "toy"}).curve,
        make_case().curve,
    ]
    for one in found["curves"]:
        assert [(point["ranks"], point["throughput"]["n"]) for point in one["points"]] == [(1, 2), (2, 2), (4, 2)]
    assert main(["fit", str(target)]) == 0
    output = capsys.readouterr().out
    assert "synthetic[model=toy]/ddp-gloo" in output, "brackets are no style"
    assert "left out: 1 row: outcome failed" in output


def test_fit_keeps_environments_apart(tmp_path, capsys):
    path = tmp_path / "rates.csv"
    path.write_text("curve,environment,ranks,throughput\na,x,1,10\na,x,2,19\na,y,1,100\na,y,2,150\nb,x,1,5\nb,x,2,9\n")
    assert main(["fit", str(path), "--json"]) == 0
    assert [one["curve"] for one in json.loads(capsys.readouterr().out)["curves"]] == ["a (x)", "a (y)", "b"]


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("ranks,throughput,outcome\n1,,ok\n", ":2: throughput is empty; give a number"),
        ("ranks,throughput\n1,\n", ":2: throughput is empty; give a number"),
        ("ranks,throughput,outcome\n1,,failed\n", "holds no rows to fit (1 left out: outcome failed)"),
    ],
)
def test_fit_takes_an_empty_throughput_only_with_its_reason(tmp_path, capsys, text, output):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    assert main(["fit", str(path)]) == 2
    assert output in capsys.readouterr().err


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_csv_round_trip(number, text):
    row = TrialRow.model_construct(
        **{**dict.fromkeys(TrialRow.model_fields), "throughput": number, "reason": text or None}
    )
    (found,) = rows_of(trials_csv([row]))
    assert (float(found["throughput"]), unescape_cell(found["reason"])) == (number, text)
