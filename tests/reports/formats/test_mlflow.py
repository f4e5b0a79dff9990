"""Sweeps as runs of MLflow, in its file store and in a database, read by its client."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

from bench.core.records import Reading
from harness.cli.app import main
from harness.planning.plan import Skip
from tests.support.builders import make_case, make_record, make_trial
from tests.support.exports import HOSTILE, curve, store_sweep

pytestmark = [
    # Not imported here: it takes seconds, and each process of the tests would, whichever runs these.
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra `mlflow` is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of MLflow's own dependencies
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The address of a file store, beside a sweep to export: a curve, a failed cell, a skipped one, an unknown."""
    folder = tmp_path_factory.mktemp("mlflow")
    readings = (Reading(name="compile_time", value=None, unit="s", reason="not compiled"),)
    unknown = make_trial(make_case(ranks=1, batch=16), ranks=(make_record(readings=readings),))
    failed = make_trial(make_case(ranks=8), outcome="failed", ranks=(), reason=HOSTILE)
    skip = Skip(case=make_case(backend="horovod"), reason="Horovod is not installed")
    option = {"a//../b": "../c\n" * 400}
    paths = make_trial(make_case(backend="single", transport="none", ranks=1, backend_options=option))
    trials = [*curve(), unknown, failed, paths]
    store_sweep(folder / "r.sqlite", trials, skips=[skip])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("SCALING_TEST_SECRET", "hunter2-in-the-environment")
        yield f"file://{folder}/runs"


def store_of(place):
    return str(Path(place.partition("://")[2]).parent / "r.sqlite")


def export(place, *arguments, status=0):
    assert main(["export", "--store", store_of(place), "--format", "mlflow", "--out", place, *arguments]) == status


@pytest.fixture(scope="module")
def runs(place):
    """The exported runs by name, the parent's by None."""
    export(place)
    return read(place)


def read(place):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place)
    found = client.search_runs([client.get_experiment_by_name("scaling-harness").experiment_id])
    by_case = {
        (run.data.params.get("backend"), run.data.params.get("ranks"), run.data.params.get("batch")): run
        for run in found
    }
    assert len(by_case) == len(found)
    return by_case


def test_a_run_a_cell_below_a_run_of_the_sweep(runs):
    parent = runs[None, None, None]
    children = [run for run in runs.values() if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(children) == 7
    cell = runs["ddp", "4", "8"]
    assert cell.data.params.items() >= {"workload": "synthetic", "transport": "gloo", "scaling": "strong"}.items()
    assert cell.info.status == parent.info.status == "FINISHED"
    assert cell.info.run_name == "synthetic · ddp/gloo (batch=8) · 4 ranks · strong"
    assert cell.data.tags["case"] == make_case(ranks=4).key
    parameters = runs["single", "1", "8"].data.params
    assert parameters["backend.a__.._b"].startswith("../c ../c "), "a name that is no path, and a value of one line"


def test_values_and_intervals_are_those_of_the_cells(place, runs):
    from mlflow import MlflowClient

    metrics = runs["ddp", "4", "8"].data.metrics
    # Two trials with steps of 0.05 and 0.051 s: mean and interval of their logarithms, t of one degree of freedom.
    logs = [math.log(0.05), math.log(0.051)]
    mean, half = sum(logs) / 2, 12.7062 * abs(logs[0] - logs[1]) / 2
    bounds = [metrics[f"step{bound}_seconds"] for bound in ("_low", "", "_high")]
    assert bounds == pytest.approx([math.exp(mean - half), math.exp(mean), math.exp(mean + half)], rel=1e-4)
    assert metrics["throughput_samples_per_second"] == pytest.approx(8 / math.exp(mean))
    assert metrics["rank_step_seconds/rank_3"] == pytest.approx(0.0505)
    history = MlflowClient(tracking_uri=place).get_metric_history(
        runs["ddp", "4", "8"].info.run_id, "trial/step_seconds"
    )
    assert [(point.step, pytest.approx(point.value)) for point in history] == [(0, 0.05), (1, 0.051)]


def test_cells_without_a_number_have_outcome_and_reason_and_no_metric(runs):
    failed, skipped, unknown = runs["ddp", "8", "8"], runs["horovod", "2", "8"], runs["ddp", "1", "16"]
    assert (failed.info.status, failed.data.tags["outcome"], failed.data.metrics) == ("FAILED", "failed", {})
    assert failed.data.tags["reason"].startswith('1 of 1 trials: died: "x", y =HYPERLINK')
    assert (skipped.info.status, skipped.data.tags["outcome"], skipped.data.metrics) == ("KILLED", "skipped", {})
    assert skipped.data.tags["reason"] == "Horovod is not installed"
    assert not [name for name in unknown.data.metrics if name.startswith("compile")]
    assert "compile_time: not compiled" in unknown.data.tags["unknown"]
    assert "step_low_seconds" not in unknown.data.metrics, "one trial has no interval"


def test_the_page_is_an_artifact_and_the_environment_is_not_exported(place, runs, tmp_path):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=place)
    page = client.download_artifacts(runs[None, None, None].info.run_id, "report.html", str(tmp_path))
    assert '<meta name="generator" content="scaling-harness">' in Path(page).read_text()
    everything = str([(run.data.params, run.data.tags) for run in runs.values()])
    assert "hunter2" not in everything


def test_exporting_again_doubles_nothing_and_adds_what_is_new(place, runs, capsys):
    from mlflow import MlflowClient

    from harness.store.opening import open_store

    client, cell = MlflowClient(tracking_uri=place), runs["ddp", "4", "8"]
    export(place)
    assert "0 runs written, 8 unchanged" in capsys.readouterr().err
    store = open_store(store_of(place), create=True)
    store.add_trial("s1", make_trial(make_case(ranks=4), 2, 0.06))
    store.close()
    export(place)
    # The cell, and the sweep with its page.
    assert "2 runs written, 6 unchanged" in capsys.readouterr().err
    again = read(place)
    assert {run.info.run_id for run in again.values()} == {run.info.run_id for run in runs.values()}
    history = client.get_metric_history(cell.info.run_id, "trial/step_seconds")
    assert [(point.step, pytest.approx(point.value)) for point in history] == [(0, 0.05), (1, 0.051), (2, 0.06)]
    assert again["ddp", "4", "8"].data.metrics["step_seconds"] == pytest.approx((0.05 * 0.051 * 0.06) ** (1 / 3))


def test_places_that_can_t_be_are_one_line(place, runs, capsys):
    store = f"sqlite:///{store_of(place)}"
    for wrong, expected in {
        "http://127.0.0.1:9": "Connection refused",
        "ftp://me:hunter2@there": "check the tracking URI in --out",
        store: "is the results store; name another place",
    }.items():
        export(place, "--out", wrong, status=2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert expected in error
        assert "hunter2" not in error


def test_a_database_has_the_artifacts_beside_it_and_takes_the_same_export_twice(place, capsys, monkeypatch):
    from mlflow import MlflowClient

    folder = Path(store_of(place)).parent
    database = f"sqlite:///{folder}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    for expected in ("8 runs written, 0 unchanged", "0 runs written, 8 unchanged"):
        assert main(["export", "--store", store_of(place), "--format", "mlflow"]) == 0
        assert expected in capsys.readouterr().err
    runs = read(database)
    assert runs[None, None, None].info.artifact_uri.startswith(f"file://{folder}/runs-artifacts/")
    run = runs["ddp", "2", "8"]
    history = MlflowClient(tracking_uri=database).get_metric_history(run.info.run_id, "step_seconds")
    assert [(point.step, point.value) for point in history] == [(2, run.data.metrics["step_seconds"])]
