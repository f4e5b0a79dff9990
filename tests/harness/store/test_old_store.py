"""A store written before the modules moved gives the numbers that were written down then."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from harness.cli.app import main
from harness.store.labels import SweepLabels
from harness.store.opening import open_store
from reports.regression.values import Verdict
from tests.support.old_store import NUMBERS, SWEEP, restore

VERDICT_FIELDS = (
    *("name", "metric", "status", "change_pct", "low_pct", "high_pct"),
    *("pairs_used", "pairs_wanted", "nights"),
)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return restore(tmp_path / "old.sqlite")


def document(capsys, *arguments, status=0):
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def estimate(found):
    return found and [found["value"], found["low"], found["high"], found["n"]]


def near(expected):
    """Equal but for the last digits, which another version of NumPy or SciPy may give differently."""
    if isinstance(expected, dict):
        return {name: near(value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [near(value) for value in expected]
    return pytest.approx(expected, rel=1e-9) if isinstance(expected, float) else expected


def test_it_is_reported_with_the_same_numbers(store, capsys):
    found = document(capsys, "report", "--store", store, "--out", "page.html")
    assert found["sweep"] == SWEEP
    assert estimate(found["own_cost"]) == near(NUMBERS["own_cost"])
    cells = {
        cell["key"]: {
            **{name: cell[name] for name in ("outcome", "trials", "settings")},
            **{name: estimate(cell[name]) for name in ("throughput", "step", "speedup", "efficiency")},
            "same_work": cell["same_work"]["verdict"],
            "usage": {name: reading["value"] for name, reading in cell["usage"].items()},
        }
        for cell in found["cells"]
    }
    assert cells == near(NUMBERS["cells"])
    laws = {
        curve["curve"]: {name: curve[name] for name in ("model", "gamma", "sigma", "kappa", "n_peak", "limit")}
        for curve in found["curves"]
    }
    assert laws == near(NUMBERS["curves"])


@pytest.mark.slow
def test_it_is_judged_with_the_same_numbers(store, capsys):
    found = document(capsys, "check", "--store", store, status=1)
    assert {name: found[name] for name in NUMBERS["verdict"]} == NUMBERS["verdict"]
    assert [[verdict[name] for name in VERDICT_FIELDS] for verdict in found["verdicts"]] == near(NUMBERS["verdicts"])
    findings = [
        [finding[name] for name in ("curve", "kind", "status", "ranks", "change_pct")] for finding in found["findings"]
    ]
    assert findings == near(NUMBERS["findings"])


def test_it_is_exported_with_the_same_rows(store, tmp_path):
    assert main(["export", "--store", store, "--out", "rows.csv"]) == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = [{name: row[name] for name in NUMBERS["rows"][0]} for row in csv.DictReader(file)]
    assert rows == NUMBERS["rows"]


def test_what_checks_keep_in_it_is_read(store):
    opened = open_store(store, create=False)
    ledger = opened.ledger
    verdicts = ledger.verdicts(SWEEP)
    (acceptance,) = ledger.acceptances()
    (run,) = ledger.runs(ledger.ingested_nights())
    pairs = ledger.pairs(SWEEP)
    opened.close()
    regressed = [verdict for verdict in verdicts if verdict.status == "regressed"]
    assert [(verdict.metric, verdict.pairs_used) for verdict in regressed] == [("step", 3), ("throughput", 3)]
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert (acceptance.because, acceptance.since) == ("a larger model, on purpose", SWEEP)
    assert (run.benchmark, run.seconds) == ("suites/test_micro.py::test_read", (0.5, 0.25, 0.75))
    assert [(pair.pair, pair.side) for pair in pairs] == [(n, side) for n in range(4) for side in ("base", "head")]


def test_it_has_no_labels_until_it_is_upgraded_and_keeps_the_rest(store):
    as_it_is = open_store(store, create=False)
    before = as_it_is.sweep(SWEEP)
    assert before.labels == SweepLabels()
    assert as_it_is.sweep("latest").id == SWEEP
    as_it_is.close()
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT format FROM scaling_harness_about").fetchone() == (2,)

    upgraded = open_store(store, create=False, upgrade=True)
    labels = upgraded.change_labels(SWEEP, lambda _: SweepLabels(title="November", tags=("old",)))
    upgraded.close()
    again = open_store(store, create=False)
    assert again.sweep("old") == before.model_copy(update=dict(labels))
    again.close()


def test_a_process_that_reads_it_meanwhile_sees_the_labels_and_one_of_an_earlier_version_still_writes(store):
    reading = open_store(store, create=False)
    earlier = sqlite3.connect(store)  # as a sweep of that version has it open
    assert reading.sweep(SWEEP).tags == ()
    writing = open_store(store, create=False, upgrade=True)
    writing.change_labels(SWEEP, lambda _: SweepLabels(tags=("old",)))
    assert reading.sweep("old").id == SWEEP
    with closing(earlier), earlier:
        earlier.execute("update sweeps set finished_at = '2026-11-28' where id = ?", (SWEEP,))
        earlier.execute("delete from trials where sweep = ? and round = 1", (SWEEP,))
        earlier.execute(
            "insert into trials select sweep, key, 1, outcome, replace(body, '\"round\":0', '\"round\":1') "
            "from trials where sweep = ? and round = 0",
            (SWEEP,),
        )
    assert reading.sweep("old").finished_at == "2026-11-28"
    assert {trial.round for trial in reading.trials(SWEEP)} >= {0, 1}
    reading.close()
    writing.close()


def test_trials_are_measured_as_they_were_when_they_were_stored(store, tmp_path):
    """What the old code kept of each trial for checks is what today's code makes of the trial."""
    target = str(tmp_path / "new.sqlite")
    assert main(["merge", store, "--store", target]) == 0

    def kept(path, table):
        with closing(sqlite3.connect(path)) as connection:
            return [list(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY sweep, key").fetchall()]

    measures = kept(store, "measures")
    assert len(measures) > 50
    assert kept(target, "measures") == near(measures)
    assert kept(target, "cells") == kept(store, "cells")


def test_an_exported_ingested_night_is_the_one_that_came(store, tmp_path):
    assert main(["export", "2026-11-27", "--store", store, "--format", "pytest-benchmark", "--out", "night.json"]) == 0
    (benchmark,) = json.loads((tmp_path / "night.json").read_text())["benchmarks"]
    assert (benchmark["fullname"], benchmark["stats"]["median"]) == ("suites/test_micro.py::test_read", 0.5)
