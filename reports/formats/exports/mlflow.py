"""Sweeps as runs of MLflow: a parent run for each sweep, a child run for each cell.

A cell's parameters are those of its case; its metrics are the numbers of the cell with their intervals, and those of
its trials (``trial/…``, whose step is the round). A run is found again by its tags: what an earlier export has written
stays, and what is missing is added. The history of a metric only grows; the step of a cell's metric is the number of
its trials, so that the latest value is that of the most.

Names and limits: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.core.text import one_line
from reports.formats.cell_records import CellRecord, TrialRecord
from reports.formats.exports import CannotExport, Tracked, Tracker, require_packages
from reports.formats.sweep_records import SweepRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EXPERIMENT = "scaling-harness"
EXPERIMENT_VARIABLE, URI_VARIABLE = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""Settings of MLflow where the user has none: it would try for four minutes to reach a server that does not answer, and
tell its makers how it is used."""
SWEEP, CASE, DIGEST = "scaling.sweep", "scaling.case", "scaling.digest"
"""Tags: the sweep of a run; a digest of its case's key, which a parent run does not have; and one of all that was
exported, set last: a run without it was interrupted."""
DATABASE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:")
STATUS = {"ok": "FINISHED", "skipped": "KILLED"}
"""MLflow's word for an outcome; all others are ``FAILED``."""
MAX_TEXT = 500
"""Characters of a parameter's or a tag's value, in older servers."""
MAX_KEY = 250
MAX_PARAMS, MAX_METRICS, PAGE_RUNS = 100, 500, 1000
"""How many one request takes."""
PAGE = "report.html"


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    timestamp_ms: int
    step: int


def write(sweeps: Iterable[SweepRecord], place: str) -> Tracked:
    """See :attr:`reports.formats.exports.Tracker.write`. ``place``: a tracking URI."""
    modules = {"mlflow": "mlflow-skinny"} | ({"alembic": "alembic"} if DATABASE.match(place) else {})
    require_packages("mlflow", modules)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # On its first use of a database it tells of each of its tables.
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    try:
        client = MlflowClient(tracking_uri=place)
        experiment = _experiment(client, place)
        written = unchanged = 0
        for sweep in sweeps:
            for changed in _write_sweep(client, experiment, sweep):
                written, unchanged = written + changed, unchanged + (not changed)
    except (MlflowException, SQLAlchemyError) as problem:
        raise CannotExport(f"MLflow: {one_line(str(problem), MAX_TEXT)}; check the tracking URI in --out") from None
    return Tracked(written, unchanged)


def _experiment(client: MlflowClient, place: str) -> str:
    """The id of the experiment that the runs are in, which is created where it is missing."""
    name = os.environ.get(EXPERIMENT_VARIABLE) or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=_artifacts(place)))
    if found.lifecycle_stage != "active":
        raise CannotExport(f"experiment '{name}' is deleted; restore it, or name another in {EXPERIMENT_VARIABLE}")
    return str(found.experiment_id)


def _artifacts(place: str) -> str | None:
    """Where artifacts are: beside an SQLite database, and not in the folder that the command happens to run in."""
    if not place.startswith("sqlite:///"):
        return None
    database = Path(place.removeprefix("sqlite:///").partition("?")[0]).absolute()
    return (database.parent / f"{database.stem}-artifacts").as_uri()


def _write_sweep(client: MlflowClient, experiment: str, sweep: SweepRecord) -> Iterator[bool]:
    """Write the parent run, then those of the cells; yields whether each was written."""
    runs = _runs_of(client, experiment, sweep.facts.id)
    began = _milliseconds(sweep.facts.started_at)
    parent = runs.get("") or _create(client, experiment, began, {"mlflow.runName": sweep.title, SWEEP: sweep.facts.id})
    contents = [(cell, tuple(sweep.trials(cell))) for cell in sweep.cells]
    digests = [_digest(cell.model_dump_json(), *(t.model_dump_json() for t in trials)) for cell, trials in contents]
    ends = []
    for (cell, trials), digest in zip(contents, digests, strict=True):
        case = _digest(cell.case.key)
        tags = {"mlflow.runName": cell.title, "mlflow.parentRunId": parent.info.run_id, SWEEP: cell.sweep, CASE: case}
        starts = [_milliseconds(trial.started_at) for trial in trials]
        ends.append(max((_end_ms(trial) for trial in trials), default=began))
        run = runs.get(case) or _create(client, experiment, min(starts, default=began), tags)
        changed = run.data.tags.get(DIGEST) != digest
        if changed:
            _log_cell(client, run, cell, trials)
            _finish(client, run, _cell_tags(sweep, cell), digest, STATUS.get(cell.outcome, "FAILED"), ends[-1])
        yield changed
    digest = _digest(sweep.facts.model_dump_json(), sweep.title, sweep.note or "", *sweep.tags, *digests)
    changed = parent.data.tags.get(DIGEST) != digest
    if changed:
        client.log_text(parent.info.run_id, sweep.page(), PAGE)
        _finish(client, parent, _sweep_tags(sweep), digest, "FINISHED", max(ends, default=began))
    yield changed


def _runs_of(client: MlflowClient, experiment: str, sweep: str) -> dict[str, Run]:
    """The runs of a sweep by the digest of the case; the parent's is empty."""
    runs: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], f"tags.`{SWEEP}` = '{sweep}'", max_results=PAGE_RUNS, page_token=token)
        runs |= {run.data.tags.get(CASE, ""): run for run in page}
        token = page.token
        if not token:
            return runs


def _create(client: MlflowClient, experiment: str, start_ms: int, tags: Mapping[str, str]) -> Run:
    return client.create_run(experiment, start_time=start_ms, tags=dict(tags))


def _log_cell(client: MlflowClient, run: Run, cell: CellRecord, trials: Sequence[TrialRecord]) -> None:
    """Parameters that a run lacks, and the points that its metrics lack."""
    from mlflow.entities import Metric, Param

    run_id = run.info.run_id
    known = run.data.params
    parameters = {_key(name): one_line(str(value), MAX_TEXT) for name, value in cell.parameters.items()}
    params = [Param(name, value) for name, value in parameters.items() if name not in known]
    for start in range(0, len(params), MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
    points = [*_cell_points(cell), *_trial_points(trials)]
    logged = {
        (point.key, point.value, point.step)
        for key in {point.key for point in points} & run.data.metrics.keys()
        for point in client.get_metric_history(run_id, key)
    }
    new: list[Metric] = [Metric(*point) for point in points if (point.key, point.value, point.step) not in logged]
    for start in range(0, len(new), MAX_METRICS):
        client.log_batch(run_id, metrics=new[start : start + MAX_METRICS])


def _cell_points(cell: CellRecord) -> Iterator[Point]:
    # The value of now is the latest, also where the same trials gave another one to an earlier version.
    now_ms = int(1000 * time.time())
    for metric in cell.metrics:
        labels = "".join(f"/{label}_{value}" for label, value in metric.labels.items())
        for name, value in metric.values.items():
            yield Point(f"{name}{labels}", value, now_ms, cell.trials)


def _trial_points(trials: Iterable[TrialRecord]) -> Iterator[Point]:
    for trial in trials:
        for name, value in trial.values.items():
            yield Point(f"trial/{name}", value, _milliseconds(trial.started_at), trial.round)


def _cell_tags(sweep: SweepRecord, cell: CellRecord) -> dict[str, str]:
    return {
        "outcome": cell.outcome,
        "reason": cell.reason or "",
        "flags": ", ".join(cell.flags),
        "unknown": "; ".join(f"{quantity}: {reason}" for quantity, reason in cell.unknown.items()),
        "case": cell.case.key,
        "mlflow.source.git.commit": sweep.facts.commit or "",
    }


def _sweep_tags(sweep: SweepRecord) -> dict[str, str]:
    facts = sweep.facts
    changed = {True: "yes", False: "no", None: ""}[facts.changed_files]
    return {
        "mlflow.runName": sweep.title,
        "mlflow.note.content": sweep.note or "",
        "mlflow.source.git.commit": facts.commit or "",
        "changed_files": changed,
        "host": facts.host,
        "cpu": facts.cpu,
        "gpus": ", ".join(facts.gpus),
        "environment": facts.environment,
        "tags": ", ".join(sweep.tags),
    }


def _finish(client: MlflowClient, run: Run, tags: Mapping[str, str], digest: str, status: str, end_ms: int) -> None:
    from mlflow.entities import RunTag

    known = [RunTag(name, one_line(text, MAX_TEXT)) for name, text in tags.items() if text]
    client.log_batch(run.info.run_id, tags=known)
    client.set_terminated(run.info.run_id, status, end_ms)
    client.set_tag(run.info.run_id, DIGEST, digest)


def _key(name: str) -> str:
    """A name of a parameter that MLflow takes: no path, since its file store names a file after it."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:MAX_KEY]


def _digest(*texts: str) -> str:
    return sha256("\n".join(texts).encode(errors="backslashreplace")).hexdigest()[:32]


def _milliseconds(at: str) -> int:
    return int(1000 * datetime.fromisoformat(at).timestamp())


def _end_ms(trial: TrialRecord) -> int:
    return _milliseconds(trial.started_at) + int(1000 * (trial.wall_s or 0))


FORMAT = Tracker(
    "a run a cell in MLflow, with intervals as metrics and the page as artifact",
    write,
    out="a tracking URI, such as sqlite:///mlflow.db",
    variable=URI_VARIABLE,
)
