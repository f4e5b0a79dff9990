"""Cells as offline runs of Weights & Biases: folders that ``wandb sync`` uploads later. Nothing is sent here.

wandb's own package writes a run through a service, which is a process of its own; it ends with the export. By default
it would add the machine, the Git remote, the installed packages and samples of this process, none of which are the
ranks'. A run's id is made of its sweep and its case: a cell that has changed is written anew under the same id, so that
it is uploaded in place of what was uploaded before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.core.case import Scalar
from bench.core.text import one_line
from reports.formats.cell_records import CellRecord, TrialRecord
from reports.formats.exports import CannotExport, Tracked, Tracker, require_packages
from reports.formats.sweep_records import SweepRecord

PROJECT, PROJECT_VARIABLE = "scaling-harness", "WANDB_PROJECT"
SETTINGS = {
    "mode": "offline",
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
MAX_TAG, MAX_ERROR = 64, 400
"""Characters of a tag, and of a message."""


def write(sweeps: Iterable[SweepRecord], place: str) -> Tracked:
    """See :attr:`reports.formats.exports.Tracker.write`. ``place``: the folder in which ``wandb`` is created."""
    require_packages("wandb", {"wandb": "wandb"})
    # Its makers' service for errors, asked for when the package is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder = Path(place).expanduser()
    written = unchanged = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sweep in sweeps:
            for cell in sweep.cells:
                changed = _write_cell(folder, sweep, cell, tuple(sweep.trials(cell)))
                written, unchanged = written + changed, unchanged + (not changed)
    except (wandb.Error, OSError, ValueError) as problem:
        raise CannotExport(f"{one_line(str(problem), MAX_ERROR)}; name another folder with --out") from None
    finally:
        wandb.teardown()
    note = f"upload with `wandb sync {folder / 'wandb'}/offline-run-*`"
    return Tracked(written, unchanged, (note,) if written else ())


def _write_cell(folder: Path, sweep: SweepRecord, cell: CellRecord, trials: Sequence[TrialRecord]) -> bool:
    """Write a run unless it is there as it would be written; returns whether it was written."""
    run_id = f"{cell.sweep}-{_digest(cell.case.key)[:12]}"
    config = _config(sweep, cell)
    digest = _digest(cell.model_dump_json(), str(config), *(trial.model_dump_json() for trial in trials))
    before = list(folder.glob(f"wandb/offline-run-*-{run_id}"))
    if any(_holds(run / f"run-{run_id}.wandb", digest) for run in before):
        return False
    _write_run(folder, sweep, cell, trials, run_id, {**config, "export_digest": digest})
    for run in before:
        shutil.rmtree(run)
    return True


def _write_run(
    folder: Path,
    sweep: SweepRecord,
    cell: CellRecord,
    trials: Sequence[TrialRecord],
    run_id: str,
    config: Mapping[str, Any],
) -> None:
    import wandb

    run = wandb.init(
        project=os.environ.get(PROJECT_VARIABLE) or PROJECT,
        dir=folder,
        id=run_id,
        name=cell.title,
        group=cell.sweep,
        job_type="cell",
        notes=cell.reason,
        tags=[one_line(tag, MAX_TAG) for tag in dict.fromkeys((cell.outcome, *sweep.tags))],
        config=dict(config),
        settings=wandb.Settings(**SETTINGS),
    )
    run.define_metric("trial/*", step_metric="round")
    run.define_metric("steps/*", step_metric="step")
    for row in (*_trial_rows(trials), *_step_rows(trials)):
        run.log(row)
    run.summary.update({"outcome": cell.outcome, **_cell_values(cell)})
    run.finish(exit_code=0 if cell.outcome in ("ok", "skipped") else 1)


def _config(sweep: SweepRecord, cell: CellRecord) -> dict[str, Any]:
    facts = sweep.facts
    texts: dict[str, Scalar | None] = {
        "sweep": cell.sweep,
        "sweep_title": sweep.title,
        "case": cell.case.key,
        "commit": facts.commit,
        "changed_files": facts.changed_files,
        "host": facts.host,
        "cpu": facts.cpu,
        "environment": facts.environment,
        "outcome": cell.outcome,
        "reason": cell.reason,
        "flags": ", ".join(cell.flags),
    }
    known = {name: value for name, value in texts.items() if value not in (None, "")}
    return {**cell.parameters, **known, **({"unknown": cell.unknown} if cell.unknown else {})}


def _cell_values(cell: CellRecord) -> dict[str, float]:
    return {
        "".join((name, *(f"/{label}_{value}" for label, value in metric.labels.items()))): number
        for metric in cell.metrics
        for name, number in metric.values.items()
    }


def _trial_rows(trials: Iterable[TrialRecord]) -> Iterator[dict[str, float]]:
    for trial in trials:
        if trial.values:
            yield {"round": trial.round, **{f"trial/{name}": value for name, value in trial.values.items()}}


def _step_rows(trials: Iterable[TrialRecord]) -> Iterator[dict[str, float]]:
    """A row for each step, with the time of the step and the loss of each trial that has them."""
    rows: dict[int, dict[str, float]] = {}
    for trial in trials:
        for number, step_s in enumerate(trial.step_s, 1):
            step = number * trial.steps_per_entry
            rows.setdefault(step, {"step": step})[f"steps/step_seconds/round_{trial.round}"] = step_s
        for step, loss in trial.losses:
            rows.setdefault(step, {"step": step})[f"steps/loss/round_{trial.round}"] = loss
    yield from (rows[step] for step in sorted(rows))


def _holds(file: Path, digest: str) -> bool:
    return file.is_file() and digest.encode() in file.read_bytes()


def _digest(*texts: str) -> str:
    return sha256("\n".join(texts).encode(errors="backslashreplace")).hexdigest()[:32]


FORMAT = Tracker(
    "a run a cell for Weights & Biases, offline: `wandb sync` uploads them",
    write,
    out="a folder",
    variable="WANDB_DIR",
)
