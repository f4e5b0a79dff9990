"""Sweeps as a table for other tools: one row for each trial, plain values in a stable order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from bench.core.case import Scalar, Scaling
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome, Trial
from bench.core.same_work import SameWork
from reports.analysis import flags
from reports.analysis.cells import Cell
from reports.analysis.device_busy import BUSY, HOST_BOUND_SHARE
from reports.analysis.program_runs import summarize_program
from reports.analysis.trial_measures import TrialMeasures

NO_SCALING_CLAIM = frozenset({*flags.NO_SCALING_CLAIM, "injected"})
"""Flags of valid numbers that feed no scaling claim."""
COLLECTIVE_UNIT = "bytes"
"""The unit of a collective's throughput."""
LIST_SEPARATOR = ";"
READING_COLUMNS = {
    "rank_memory_peak": "memory_peak_bytes",
    "gpu_memory_peak": "gpu_memory_peak_bytes",
    "cpu_energy": "cpu_energy_j_per_unit",
    "gpu_energy": "gpu_energy_j_per_unit",
    "checkpoint_stall": "checkpoint_stall_s",
    "checkpoint_write": "checkpoint_write_s",
    "checkpoint_size": "checkpoint_bytes",
    BUSY: "device_busy_s",
    HOST_BOUND_SHARE: "host_bound_share",
}
"""The readings of a trial that have a column, with its name, which ends in the unit."""

PlainValue = str | int | float | bool | None


class SweepFacts(FrozenModel):
    """A sweep, and the machine and versions it ran on."""

    id: str
    started_at: str
    environment: str
    commit: str | None
    changed_files: bool | None
    host: str
    system: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    python: str
    packages: dict[str, str]


class TrialRow(FrozenModel):
    """One trial. A measured value is ``None`` where it is unknown or does not count, and ``reason`` says why.

    The order of the fields is the order of the columns; new ones are appended.
    """

    sweep: str
    started_at: str
    """The start of the sweep."""
    commit: str | None
    changed_files: bool | None
    """Whether the working copy differed from the commit."""
    environment: str
    """A digest of machine and versions: rows with the same one are comparable."""
    host: str
    cpu: str
    cores: int
    gpus: tuple[str, ...]
    case: str
    """The case's key."""
    curve: str
    """The case's key without the rank count."""
    title: str
    workload: str
    workload_options: dict[str, Scalar]
    backend: str
    transport: str
    backend_options: dict[str, Scalar]
    device: str
    ranks: int
    scaling: Scaling
    batch: int
    """Samples per step: of all ranks under strong scaling, of each rank under weak scaling."""
    threads: int
    seed: int
    fault: str | None
    round: int | None
    """From 0; ``None`` where the case never ran."""
    trial_started_at: str | None
    wall_s: float | None
    outcome: Outcome
    reason: str | None
    unit: str | None
    """The unit of work: ``samples``, ``bytes``, ``elements``, or another that a workload counts."""
    throughput: float | None
    """Units per second, of all ranks together."""
    steps: int | None
    step_s: float | None
    """The median over the window of each step's slowest rank."""
    flags: tuple[str, ...]
    """The flags of the case, as in the report."""
    conditions: tuple[str, ...]
    """Conditions that may have disturbed this trial."""
    same_work: str | None
    same_work_deviation: float | None
    same_work_tolerance: float | None
    memory_peak_bytes: int | None
    """The highest of all ranks."""
    gpu_memory_peak_bytes: int | None
    cpu_energy_j_per_unit: float | None
    gpu_energy_j_per_unit: float | None
    unknown: dict[str, str]
    """The reason why a reading is unknown, by its column."""
    net: str | None
    """The rate of the links between the ranks, where the site shapes links."""
    site: str
    nodes: int
    ranks_per_node: int | None
    """How many a full node holds; ``None``: not given, all were on one machine."""
    cost: float | None
    """The cost of the trial, in the unit of the given price."""
    sources: str | None = None
    """The digest of the code that its ranks ran; ``None`` where they did not say, as in old records."""
    env: dict[str, str] = Field(default={})
    """The environment variables that the case gives its ranks."""
    checkpoint_stall_s: float | None = None
    """How long one save of model and optimizer keeps training standing still; ``None`` where it was not measured."""
    checkpoint_write_s: float | None = None
    """Until it is on the disk."""
    checkpoint_bytes: int | None = None
    """Of all ranks."""
    work_counted: str | None = None
    """How the work of a user's own program was counted: ``DataLoader``, ``given`` or ``printed``."""
    time_to_end_s: float | None = None
    """Of a program that came to its own end (``--whole``), as the columns that follow."""
    startup_s: float | None = None
    checkpoint_pauses_s: float | None = None
    evaluation_s: float | None = None
    goodput: float | None = None
    """The share of its time that it spent in steps."""

    operation: str | None = None
    """Of a collective: the operation whose messages were timed."""
    in_place: bool | None = None
    """Whether its result replaced what a rank handed in; ``None``: no collective, or unknown."""
    message_times_s: dict[str, float] = Field(default={})
    """Of a collective: the time of one operation in seconds, by the size of its message in bytes."""
    gpu_energy_ends: float | None = None
    """By how much of it the energy of the GPUs may be wrong by the ends of the window, at most."""
    gpu_energy_alias: float | None = None
    """By how much of it the energy of the GPUs may be wrong by the phase between steps and counter."""
    device_busy_s: float | None = None
    """How long a step would take if no GPU waited for its host."""
    host_bound_share: float | None = None
    """The share of a step in which the GPU waits for the host."""
    ranks_per_gpu: int = 1

    @property
    def feeds_scaling(self) -> bool:
        """Whether the trial counts for scaling claims; a collective alone has no speed-up."""
        return (
            self.throughput is not None
            and self.unit != COLLECTIVE_UNIT
            and not NO_SCALING_CLAIM.intersection(self.flags)
        )


class SweepTable(FrozenModel):
    """The exported table: the rows of one sweep or several, and the environments of the sweeps."""

    sweeps: tuple[SweepFacts, ...]
    rows: tuple[TrialRow, ...]


def rows_of(sweep: SweepFacts, cells: Sequence[Cell], trials: Sequence[Trial]) -> Iterator[TrialRow]:
    """The rows of a sweep by cell and round; a case that never ran is one row with its outcome and reason."""
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(trial.case.key, []).append(trial)
    for cell in cells:
        case_trials = by_key.get(cell.case.key, [])
        if not case_trials:
            yield _row(sweep, cell, None)
        for trial in sorted(case_trials, key=lambda trial: trial.round):
            yield _row(sweep, cell, trial)


def plain_values(row: TrialRow) -> dict[str, PlainValue]:
    """The values of a row by column: options as JSON, lists joined by semicolons."""
    return {name: _plain(getattr(row, name)) for name in TrialRow.model_fields}


def _plain(value: PlainValue | dict[str, Any] | tuple[str, ...]) -> PlainValue:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else None
    return (LIST_SEPARATOR.join(value) or None) if isinstance(value, tuple) else value


def _row(sweep: SweepFacts, cell: Cell, trial: Trial | None) -> TrialRow:
    case, proof = cell.case, _proof(cell, trial)
    outcome, reason = _outcome_and_reason(cell, trial)
    measures = _measures(cell, trial)
    measured = (*measures.usage, *trial.ranks[0].readings) if measures and trial else ()
    readings = [reading for reading in measured if reading.name in READING_COLUMNS]
    values = {READING_COLUMNS[reading.name]: reading.value for reading in readings if reading.value is not None}
    return TrialRow(
        sweep=sweep.id,
        started_at=sweep.started_at,
        commit=sweep.commit,
        changed_files=sweep.changed_files,
        environment=trial.environment if trial else sweep.environment,
        host=sweep.host,
        cpu=sweep.cpu,
        cores=sweep.cores,
        gpus=sweep.gpus,
        case=case.key,
        curve=case.curve,
        title=cell.labels.title,
        workload=case.workload,
        workload_options=case.workload_options,
        backend=case.backend,
        transport=case.transport,
        backend_options=case.backend_options,
        device=case.device,
        ranks=case.ranks,
        scaling=case.scaling,
        batch=case.batch,
        threads=case.threads,
        seed=case.seed,
        net=case.net,
        fault=case.fault.label if case.fault else None,
        site=case.site,
        nodes=case.nodes,
        ranks_per_node=case.ranks_per_node,
        ranks_per_gpu=case.ranks_per_gpu,
        cost=trial.cost if trial else None,
        sources=trial.sources if trial else None,
        env=case.env,
        **_message_columns(cell, measures),
        round=trial.round if trial else None,
        trial_started_at=trial.started_at if trial else None,
        wall_s=trial.wall_s if trial else None,
        outcome=outcome,
        reason=reason,
        unit=measures.unit if measures else None,
        throughput=measures.throughput if measures else None,
        steps=measures.steps if measures else None,
        step_s=measures.step_s if measures else None,
        flags=cell.flags,
        conditions=tuple(dict.fromkeys(condition.name for condition in trial.conditions)) if trial else (),
        same_work=proof.verdict if proof else None,
        same_work_deviation=proof.deviation if proof else None,
        same_work_tolerance=proof.tolerance if proof else None,
        **{column: values.get(column) for column in READING_COLUMNS.values()},
        **_program_columns(trial, measures),
        **_energy_columns(measures),
        unknown={READING_COLUMNS[reading.name]: reading.reason or "" for reading in readings if reading.value is None},
    )


def _proof(cell: Cell, trial: Trial | None) -> SameWork | None:
    """Of a trial; of a program's, which shows it beside those of other numbers of ranks, that of its cell."""
    if trial is not None and trial.outcome == "ok" and cell.same_work is not None and trial.ranks[0].program:
        return cell.same_work
    return trial.same_work if trial is not None else None


def _program_columns(trial: Trial | None, measures: TrialMeasures | None) -> dict[str, Any]:
    summary = summarize_program([trial]) if trial is not None and measures is not None else None
    if summary is None:
        return {}
    whole = summary.whole
    if whole is None:
        return {"work_counted": summary.counted}
    return {
        "work_counted": summary.counted,
        "time_to_end_s": whole.time_to_end_s.value,
        "startup_s": whole.startup_s.value,
        "checkpoint_pauses_s": whole.checkpoint_s.value,
        "evaluation_s": whole.evaluation_s.value,
        "goodput": whole.goodput.value,
    }


def _energy_columns(measures: TrialMeasures | None) -> dict[str, Any]:
    errors = measures.energy_errors if measures else ()
    return next(
        ({"gpu_energy_ends": e.ends, "gpu_energy_alias": e.alias} for e in errors if e.name == "gpu_energy"), {}
    )


def _message_columns(cell: Cell, measures: TrialMeasures | None) -> dict[str, Any]:
    if measures is None or not cell.messages:
        return {}
    sizes = [str(message.message_bytes) for message in cell.messages]
    return {
        "operation": cell.messages[0].operation,
        "in_place": cell.messages[0].in_place,
        "message_times_s": dict(zip(sizes, measures.message_times_s, strict=True)),
    }


def _measures(cell: Cell, trial: Trial | None) -> TrialMeasures | None:
    """The numbers of a trial, where they count for its cell."""
    if trial is None or trial.outcome != "ok":
        return None
    return next((measures for measures in cell.measures if measures.round == trial.round), None)


def _outcome_and_reason(cell: Cell, trial: Trial | None) -> tuple[Outcome, str | None]:
    """A trial with different work invalidates all trials of its case, as in the report."""
    if trial is None or (trial.outcome == "ok" and cell.outcome == "invalid"):
        return cell.outcome, cell.reason
    return trial.outcome, trial.reason
