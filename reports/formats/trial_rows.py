"""Sweeps as a table for other tools: one row for each trial, plain values in a stable order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

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
from reports.formats.cell_records import CellRecord
from reports.formats.columns import Column
from reports.formats.documents import schema_version

NO_SCALING_CLAIM = frozenset({*flags.NO_SCALING_CLAIM, "injected"})
"""Flags of valid numbers that feed no scaling claim."""
COLLECTIVE_UNIT = "bytes"
"""The unit of a collective's throughput."""
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

    sweep: Annotated[str, Column("Id of the sweep.")]
    started_at: Annotated[str, Column("Start of the sweep.", is_time=True)]
    commit: Annotated[str | None, Column("Commit of the code; missing outside a checkout.")]
    changed_files: Annotated[bool | None, Column("Whether the working copy differed from the commit.")]
    environment: Annotated[str, Column("A digest of machine and versions: rows with the same one are comparable.")]
    host: Annotated[str, Column("Name of the machine that ran the command.")]
    cpu: Annotated[str, Column("Model of its processor.")]
    cores: Annotated[int, Column("Processor cores that it may use.", "cores")]
    gpus: Annotated[tuple[str, ...], Column("Models of its GPUs.")]
    case: Annotated[str, Column("Key of the case: the same in every sweep that measures it.")]
    curve: Annotated[str, Column("Key of the case without the rank count.")]
    title: Annotated[str, Column("Title of the case, for people.")]
    workload: Annotated[str, Column("Name of the workload.")]
    workload_options: Annotated[dict[str, Scalar], Column("Options that differ from their defaults.")]
    backend: Annotated[str, Column("Name of the backend.")]
    transport: Annotated[str, Column("What its communication goes through, such as `gloo` or `nccl`.")]
    backend_options: Annotated[dict[str, Scalar], Column("Options that differ from their defaults.")]
    device: Annotated[str, Column("Kind of device: `cpu` or `cuda`.")]
    ranks: Annotated[int, Column("Number of ranks.", "ranks")]
    scaling: Annotated[Scaling, Column("`strong`: the global batch is fixed; `weak`: the batch of each rank is fixed.")]
    batch: Annotated[
        int,
        Column("Samples per step: of all ranks under strong scaling, of each rank under weak scaling.", "samples"),
    ]
    threads: Annotated[int, Column("Threads of each rank.", "threads")]
    seed: Annotated[int, Column("Seed of data and weights.")]
    fault: Annotated[str | None, Column("The injected fault; missing without one.")]
    round: Annotated[int | None, Column("Number of the repeat, from 0; missing where the case never ran.")]
    trial_started_at: Annotated[
        str | None, Column("Start of the trial; missing where the case never ran.", is_time=True)
    ]
    wall_s: Annotated[float | None, Column("Time from the start of the trial's processes to their end.", "s")]
    outcome: Annotated[Outcome, Column("`ok`, `skipped`, `failed`, `timeout` or `invalid`.")]
    reason: Annotated[str | None, Column("Why the outcome is another than `ok`; missing where it is `ok`.")]
    unit: Annotated[
        str | None,
        Column("The unit of work: `samples`, `bytes`, `elements`, or another that a workload counts."),
    ]
    throughput: Annotated[
        float | None,
        Column(
            "Work of all ranks by the time of their slowest steps; missing where `outcome` is not `ok`.", "`unit`/s"
        ),
    ]
    steps: Annotated[int | None, Column("Steps of the measured window.", "steps")]
    step_s: Annotated[float | None, Column("Median over the window of the time of each step on its slowest rank.", "s")]
    flags: Annotated[tuple[str, ...], Column("Flags of the case, as in the report.")]
    conditions: Annotated[tuple[str, ...], Column("Conditions that may have disturbed this trial.")]
    same_work: Annotated[
        str | None,
        Column(
            "Whether it did the same work as a single process: `same`, `different` or `unproven`; missing where it "
            "was not compared."
        ),
    ]
    same_work_deviation: Annotated[float | None, Column("Largest relative deviation from the single process.", "1")]
    same_work_tolerance: Annotated[float | None, Column("Largest deviation that counts as the same work.", "1")]
    memory_peak_bytes: Annotated[int | None, Column("Peak resident memory of a rank, the highest of all ranks.", "B")]
    gpu_memory_peak_bytes: Annotated[int | None, Column("Peak memory in use on a GPU, the highest of all GPUs.", "B")]
    cpu_energy_j_per_unit: Annotated[float | None, Column("Energy of the processors, by unit of work.", "J/`unit`")]
    gpu_energy_j_per_unit: Annotated[float | None, Column("Energy of the GPUs, by unit of work.", "J/`unit`")]
    unknown: Annotated[dict[str, str], Column("The reason why a reading is missing, by its column.")]
    net: Annotated[str | None, Column("Rate of the links between the ranks, where the site shapes links.")]
    site: Annotated[str, Column("Where the ranks ran.")]
    nodes: Annotated[int, Column("Number of nodes.", "nodes")]
    ranks_per_node: Annotated[
        int | None, Column("Ranks on a full node; missing: not given, all were on one machine.", "ranks")
    ]
    cost: Annotated[float | None, Column("Cost of the trial.", "unit of the given price")]
    sources: Annotated[
        str | None,
        Column("Digest of the code that its ranks ran; missing where they did not say, as in old records."),
    ] = None
    env: Annotated[dict[str, str], Column("Environment variables that the case gives its ranks.")] = Field(default={})
    checkpoint_stall_s: Annotated[
        float | None,
        Column("How long one save of model and optimizer keeps training standing still, where it was measured.", "s"),
    ] = None
    checkpoint_write_s: Annotated[float | None, Column("Time until such a save is on the disk.", "s")] = None
    checkpoint_bytes: Annotated[int | None, Column("Size of such a save, of all ranks.", "B")] = None
    work_counted: Annotated[
        str | None,
        Column("How the work of a user's own program was counted: `DataLoader`, `given` or `printed`."),
    ] = None
    time_to_end_s: Annotated[
        float | None, Column("Time until such a program came to its own end (`--whole`).", "s")
    ] = None
    startup_s: Annotated[float | None, Column("Its time before the first step.", "s")] = None
    checkpoint_pauses_s: Annotated[float | None, Column("Its time in checkpoints.", "s")] = None
    evaluation_s: Annotated[float | None, Column("Its time in evaluations.", "s")] = None
    goodput: Annotated[float | None, Column("The share of its time that it spent in steps.", "1")] = None
    operation: Annotated[str | None, Column("Of a collective: the operation whose messages were timed.")] = None
    in_place: Annotated[
        bool | None,
        Column("Whether its result replaced what a rank handed in; missing: no collective, or unknown."),
    ] = None
    message_times_s: Annotated[
        dict[str, float],
        Column("Of a collective: the time of one operation, by the size of its message in bytes.", "s"),
    ] = Field(default={})
    gpu_energy_ends: Annotated[
        float | None,
        Column("By how much of it the energy of the GPUs may be wrong by the ends of the window, at most.", "1"),
    ] = None
    gpu_energy_alias: Annotated[
        float | None,
        Column("By how much of it that may be wrong by the phase between steps and counter, at most.", "1"),
    ] = None
    device_busy_s: Annotated[float | None, Column("How long a step would take if no GPU waited for its host.", "s")] = (
        None
    )
    host_bound_share: Annotated[
        float | None, Column("The share of a step in which the GPU waits for the host.", "1")
    ] = None
    ranks_per_gpu: Annotated[int, Column("Ranks that share a GPU; on CPUs it means nothing.", "ranks")] = 1
    schema_version: Annotated[str, Column("Version of these columns.")] = Field(
        default_factory=lambda: schema_version("trial-row")
    )

    @property
    def feeds_scaling(self) -> bool:
        """Whether the trial counts for scaling claims; a collective alone has no speed-up."""
        return (
            self.throughput is not None
            and self.unit != COLLECTIVE_UNIT
            and not NO_SCALING_CLAIM.intersection(self.flags)
        )


class SweepTable(FrozenModel):
    """The exported table: the rows of one sweep or several, the environments of the sweeps, and their cells."""

    sweeps: tuple[SweepFacts, ...]
    rows: tuple[TrialRow, ...]
    cells: tuple[CellRecord, ...] = ()
    """Empty unless the format needs them."""


def rows_of(sweep: SweepFacts, cells: Sequence[Cell], trials: Sequence[Trial]) -> Iterator[TrialRow]:
    """The rows of a sweep by cell and round; a case that never ran is one row with its outcome and reason."""
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        by_key.setdefault(trial.case.key, []).append(trial)
    for cell in cells:
        yield from rows_of_cell(sweep, cell, by_key.get(cell.case.key, ()))


def rows_of_cell(sweep: SweepFacts, cell: Cell, trials: Sequence[Trial]) -> Iterator[TrialRow]:
    """The rows of a cell by round; of one that never ran, a row with its outcome and reason."""
    if not trials:
        yield _row(sweep, cell, None)
    for trial in sorted(trials, key=lambda trial: trial.round):
        yield _row(sweep, cell, trial)


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
