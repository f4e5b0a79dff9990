"""Cells as a table for other tools: one row for each, plain values in a stable order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from bench.core.case import Scalar, Scaling
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome
from reports.analysis.cell_details import STEP_PARTS
from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate
from reports.formats.columns import Column

READING_COLUMNS = {
    "rank_memory_peak": "memory_peak_bytes",
    "gpu_memory_peak": "gpu_memory_peak_bytes",
    "cpu_energy": "cpu_energy_j_per_unit",
    "gpu_energy": "gpu_energy_j_per_unit",
}
"""The readings of a cell's usage that have a column."""
EFFICIENCIES = ("load_balance", "communication_efficiency", "parallel_efficiency")
NOT_DECOMPOSED = "its steps were not decomposed"
HIDDEN = "such work shows no such part: it is in unattributed_s"
EXACT = "speed-up and efficiency start from this cell: they are exact"
ONE_TRIAL = "a single trial has no interval"


class CellRow(FrozenModel):
    """A case over its trials. A measured value that is unknown is ``None``, and ``unknown`` has the reason.

    The order of the fields is the order of the columns; new ones are appended.
    """

    sweep: Annotated[str, Column("Id of the sweep.")]
    case: Annotated[str, Column("Key of the case: the same in every sweep that measures it.")]
    curve: Annotated[str, Column("Key of the case without the rank count.")]
    title: Annotated[str, Column("Title of the case, for people.")]
    workload: Annotated[str, Column("Name of the workload.")]
    workload_options: Annotated[dict[str, Scalar], Column("Options that differ from their defaults.")]
    backend: Annotated[str, Column("Name of the backend.")]
    transport: Annotated[str, Column("What its communication goes through, such as `gloo` or `nccl`.")]
    backend_options: Annotated[dict[str, Scalar], Column("Options that differ from their defaults.")]
    env: Annotated[dict[str, str], Column("Environment variables that the case gives its ranks.")]
    device: Annotated[str, Column("Kind of device: `cpu` or `cuda`.")]
    site: Annotated[str, Column("Where the ranks ran.")]
    net: Annotated[str | None, Column("Rate of the links between the ranks, where the site shapes links.")]
    ranks: Annotated[int, Column("Number of ranks.", "ranks")]
    nodes: Annotated[int, Column("Number of nodes.", "nodes")]
    ranks_per_node: Annotated[
        int | None, Column("Ranks on a full node; missing: not given, all were on one machine.", "ranks")
    ]
    ranks_per_gpu: Annotated[int, Column("Ranks that share a GPU; on CPUs it means nothing.", "ranks")]
    scaling: Annotated[Scaling, Column("`strong`: the global batch is fixed; `weak`: the batch of each rank is fixed.")]
    batch: Annotated[
        int, Column("Samples per step: of all ranks under strong scaling, of each rank under weak scaling.", "samples")
    ]
    threads: Annotated[int, Column("Threads of each rank.", "threads")]
    seed: Annotated[int, Column("Seed of data and weights.")]
    fault: Annotated[str | None, Column("The injected fault; missing without one.")]
    outcome: Annotated[Outcome, Column("`ok`, `skipped`, `failed`, `timeout` or `invalid`.")]
    reason: Annotated[str | None, Column("Why the outcome is another than `ok`; missing where it is `ok`.")]
    flags: Annotated[tuple[str, ...], Column("Flags, as in the report.")]
    conditions: Annotated[tuple[str, ...], Column("Conditions that may have disturbed its trials.")]
    trials: Annotated[int, Column("Successful trials that the numbers are over.", "trials")]
    unit: Annotated[
        str | None, Column("The unit of work per second, such as `samples/s`; missing where nothing was measured.")
    ]
    throughput: Annotated[float | None, Column("Geometric mean over the trials, of all ranks together.", "`unit`")]
    throughput_low: Annotated[float | None, Column("Lower end of its 95 % interval.", "`unit`")]
    throughput_high: Annotated[float | None, Column("Upper end of its 95 % interval.", "`unit`")]
    step_s: Annotated[float | None, Column("Time of a step on its slowest rank, over the trials.", "s")]
    step_s_low: Annotated[float | None, Column("Lower end of its 95 % interval.", "s")]
    step_s_high: Annotated[float | None, Column("Upper end of its 95 % interval.", "s")]
    speedup: Annotated[float | None, Column("Throughput ÷ that of the smallest rank count × its ranks.", "1")]
    speedup_low: Annotated[float | None, Column("Lower end of its 95 % interval.", "1")]
    speedup_high: Annotated[float | None, Column("Upper end of its 95 % interval.", "1")]
    efficiency: Annotated[float | None, Column("Speed-up ÷ ranks.", "1")]
    efficiency_low: Annotated[float | None, Column("Lower end of its 95 % interval.", "1")]
    efficiency_high: Annotated[float | None, Column("Upper end of its 95 % interval.", "1")]
    same_work: Annotated[
        str | None,
        Column(
            "Whether its trials did the same work as a single process: `same`, `different` or `unproven`; missing "
            "where they were not compared."
        ),
    ]
    same_work_deviation: Annotated[float | None, Column("Largest relative deviation from the single process.", "1")]
    same_work_tolerance: Annotated[float | None, Column("Largest deviation that counts as the same work.", "1")]
    data_s: Annotated[float | None, Column("Part of a step: waiting for its batch.", "s")]
    forward_s: Annotated[float | None, Column("Part of a step: the forward pass.", "s")]
    backward_s: Annotated[float | None, Column("Part of a step: the backward pass, without communication.", "s")]
    optimizer_s: Annotated[float | None, Column("Part of a step: the update of the parameters.", "s")]
    unattributed_s: Annotated[
        float | None, Column("Part of a step without exchange that is none of these; it may be negative.", "s")
    ]
    waiting_s: Annotated[float | None, Column("Part of a step: waiting for the slowest rank.", "s")]
    exposed_s: Annotated[float | None, Column("Part of a step: exposed communication.", "s")]
    load_balance: Annotated[float | None, Column("Mean ÷ maximum of the ranks' own times.", "1")]
    communication_efficiency: Annotated[float | None, Column("Maximum of the ranks' own times ÷ the step.", "1")]
    parallel_efficiency: Annotated[float | None, Column("Load balance × communication efficiency.", "1")]
    memory_peak_bytes: Annotated[
        float | None, Column("Peak resident memory of a rank, the highest of all ranks, over the trials.", "B")
    ]
    gpu_memory_peak_bytes: Annotated[
        float | None, Column("Peak memory in use on a GPU, the highest of all GPUs, over the trials.", "B")
    ]
    cpu_energy_j_per_unit: Annotated[float | None, Column("Energy of the processors, by unit of work.", "J/unit")]
    gpu_energy_j_per_unit: Annotated[float | None, Column("Energy of the GPUs, by unit of work.", "J/unit")]
    cost: Annotated[
        float | None, Column("Cost of a trial, where the site bills its trials.", "unit of the given price")
    ]
    unknown: Annotated[dict[str, str], Column("The reason why a measured value is missing, by its column.")]
    readings: Annotated[
        dict[str, float], Column("All further readings that are known, over the trials, by name.", "`reading_units`")
    ]
    reading_units: Annotated[dict[str, str], Column("The units of the readings, by name.")]


def cell_rows(sweep: str, cells: Sequence[Cell]) -> Iterator[CellRow]:
    """The rows of a sweep's cells, in their order. ``sweep``: its id."""
    return (_row(sweep, cell) for cell in cells)


def _row(sweep: str, cell: Cell) -> CellRow:
    case, proof = cell.case, cell.same_work
    measured, reasons = _measured(cell)
    readings = {one.name: one.estimate for one in (*cell.readings, *cell.usage) if one.estimate is not None}
    return CellRow(
        sweep=sweep,
        case=case.key,
        curve=case.curve,
        title=cell.labels.title,
        **case.model_dump(
            include={
                *("workload", "workload_options", "backend", "transport", "backend_options", "env", "device", "site"),
                *("net", "ranks", "ranks_per_node", "ranks_per_gpu", "scaling", "batch", "threads", "seed"),
            }
        ),
        nodes=case.nodes,
        fault=case.fault.label if case.fault else None,
        outcome=cell.outcome,
        reason=cell.reason,
        flags=cell.flags,
        conditions=tuple(dict.fromkeys(condition.name for condition in cell.conditions)),
        trials=cell.trials,
        unit=cell.throughput.unit if cell.throughput else None,
        same_work=proof.verdict if proof else None,
        same_work_deviation=proof.deviation if proof else None,
        same_work_tolerance=proof.tolerance if proof else None,
        **measured,
        unknown={name: reasons[name] for name, value in measured.items() if value is None},
        readings={name: found.value for name, found in readings.items()},
        reading_units={name: found.unit for name, found in readings.items()},
    )


def _measured(cell: Cell) -> tuple[dict[str, float | None], Mapping[str, str]]:
    """The measured values by column, and the reason for each that would be missing."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    nothing = cell.reason or "nothing was measured"

    def add(name: str, value: float | None, reason: str | None) -> None:
        values[name], reasons[name] = value, reason or nothing

    for name, found, why in (
        ("throughput", cell.throughput, None),
        ("step_s", cell.step_s, None),
        ("speedup", cell.speedup, cell.scaling_reason),
        ("efficiency", cell.efficiency, cell.scaling_reason),
    ):
        add(name, found.value if found else None, why)
        for end in ("low", "high"):
            add(f"{name}_{end}", getattr(found, end) if found else None, _no_interval(found) or why)
    _add_parts(cell, add)
    usage = {reading.name: reading for reading in cell.usage}
    for name, column in READING_COLUMNS.items():
        reading = usage.get(name)
        estimate = reading.estimate if reading else None
        add(column, estimate.value if estimate else None, reading.reason if reading else _not_taken(cell))
    add("cost", cell.cost.value if cell.cost else None, cell.cost_reason or "its site bills no trials")
    return values, reasons


def _add_parts(cell: Cell, add: Any) -> None:
    parts = cell.decomposition
    why = cell.decomposition_reason or (NOT_DECOMPOSED if cell.throughput else None)
    for name in STEP_PARTS:
        part = parts.parts_s.get(name) if parts else None
        hidden = (parts.unattributed_reason if parts and name == "unattributed" else None) or HIDDEN
        add(f"{name}_s", part.value if part else None, hidden if parts else why)
    for name in EFFICIENCIES:
        add(name, getattr(parts, name).value if parts else None, why)


def _no_interval(found: Estimate | None) -> str | None:
    if found is None:
        return None
    return ONE_TRIAL if found.n < 2 else EXACT


def _not_taken(cell: Cell) -> str | None:
    return "it was not read" if cell.throughput else None
