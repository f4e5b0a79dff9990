"""Cells and trials as records for monitoring and experiment trackers: parameters, and metrics with intervals.

Each tool gets the same numbers under the same names (:mod:`reports.formats.metric_units`). What is unknown is absent
there, with its reason; it is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import Field

from bench.core.case import Case, Scalar
from bench.core.frozen_model import FrozenModel
from bench.core.records import Outcome, Reading, Trial
from bench.core.text import one_line
from bench.host.secrets import mask_secrets
from reports.analysis.cells import Cell
from reports.analysis.stats import Estimate
from reports.analysis.step_times import slowest_steps
from reports.analysis.trial_measures import TrialMeasures
from reports.analysis.units import rate_unit
from reports.formats.metric_units import base_unit, metric_name

MAX_REASON = 400
"""Characters of a reason."""
RANK, MESSAGE = "rank", "message_bytes"
"""The labels of metrics of one rank, and of one size of a message."""


class Metric(FrozenModel):
    """One quantity of a cell in its base unit, over the trials."""

    quantity: str
    """``step``"""
    unit: str
    """``seconds``; empty for a count."""
    description: str
    estimate: Estimate | None
    reason: str | None = None
    """Why it is unknown."""
    labels: dict[str, str] = Field(default={})
    """What tells it from others of its name: ``{"rank": "3"}``."""

    @property
    def name(self) -> str:
        """``step_seconds``"""
        return metric_name(self.quantity, self.unit)

    @property
    def values(self) -> dict[str, float]:
        """The value and the bounds of its 95 % interval by name: ``step_seconds``, ``step_low_seconds``,
        ``step_high_seconds``; those that are known."""
        if self.estimate is None:
            return {}
        bounds = {"low": self.estimate.low, "high": self.estimate.high}
        return {self.name: self.estimate.value} | {
            metric_name(f"{self.quantity}_{bound}", self.unit): value
            for bound, value in bounds.items()
            if value is not None
        }


class CellRecord(FrozenModel):
    """One cell: what was measured, whether it succeeded, and its metrics."""

    sweep: str
    case: Case
    title: str
    outcome: Outcome
    reason: str | None
    flags: tuple[str, ...]
    trials: int
    device: str | None
    """That of rank 0 with its model; ``None`` without a successful trial."""
    metrics: tuple[Metric, ...]

    @property
    def parameters(self) -> dict[str, Scalar]:
        """See :func:`case_parameters`."""
        return case_parameters(self.case)

    @property
    def unknown(self) -> dict[str, str]:
        """Why quantities are unknown, by their names without a unit."""
        return {metric.quantity: metric.reason or "" for metric in self.metrics if metric.estimate is None}


class TrialRecord(FrozenModel):
    """One trial: its numbers where they count for its cell, and its steps."""

    round: int
    started_at: str
    wall_s: float | None
    outcome: Outcome
    reason: str | None
    values: dict[str, float]
    """Known numbers by the names of metrics."""
    step_s: tuple[float, ...] = ()
    """Each step of the window on its slowest rank, or the mean step of each block of :attr:`steps_per_entry`."""
    steps_per_entry: int = 1
    losses: tuple[tuple[int, float], ...] = ()
    """Step and loss: of the verified steps of rank 0, or those that a user's own program reported on it."""


def case_parameters(case: Case) -> dict[str, Scalar]:
    """What was measured, by name: what differs from the defaults, and what every case has (pure)."""
    per_gpu = case.ranks_per_gpu if case.ranks_per_gpu != 1 else None
    placed = {"ranks_per_node": case.ranks_per_node, "ranks_per_gpu": per_gpu, "net": case.net}
    return {
        "workload": case.workload,
        "backend": case.backend,
        "transport": case.transport,
        "device": case.device,
        "ranks": case.ranks,
        "scaling": case.scaling,
        "batch": case.batch,
        "threads": case.threads,
        "seed": case.seed,
        "site": case.site,
        **{name: value for name, value in placed.items() if value is not None},
        **({"fault": case.fault.label} if case.fault else {}),
        **{f"workload.{name}": value for name, value in case.workload_options.items()},
        **{f"backend.{name}": value for name, value in case.backend_options.items()},
        # No variable that looks like a secret is given to ranks.
        **{f"env.{name}": value for name, value in case.env.items()},
    }


def cell_record(sweep: str, cell: Cell) -> CellRecord:
    """A cell of a sweep as a record (pure)."""
    return CellRecord(
        sweep=sweep,
        case=cell.case.without_program_files(),
        title=one_line(mask_secrets(cell.labels.title), MAX_REASON),
        outcome=cell.outcome,
        reason=_shown(cell.reason),
        flags=cell.flags,
        trials=cell.trials,
        device=cell.device,
        metrics=tuple(_once_each(cell_metrics(cell))),
    )


def cell_metrics(cell: Cell) -> Iterator[Metric]:
    """All metrics of a cell. Without a successful trial it has none."""
    if cell.throughput is None or cell.step_s is None:
        return
    yield _metric("throughput", "work of all ranks together per second", cell.throughput)
    yield _metric("step", "median step of the slowest rank", cell.step_s)
    if cell.host_step_s is not None:
        yield _metric("host_step", "time in which the host enqueues a step", cell.host_step_s)
    scaling = {"speedup": cell.speedup, "efficiency": cell.efficiency}
    for name, value in scaling.items():
        description = "parallel efficiency: speed-up ÷ ranks" if name == "efficiency" else "speed-up over the baseline"
        yield _metric(name, description, value, "1", cell.scaling_reason)
    if cell.decomposition is not None:
        for part, time_s in cell.decomposition.parts_s.items():
            yield _metric(f"step_{part}", f"part of a step: {part}", time_s)
        yield _metric("load_balance", "load balance of the ranks", cell.decomposition.load_balance)
        efficiency = cell.decomposition.communication_efficiency
        yield _metric("communication_efficiency", "own time of the slowest rank ÷ step", efficiency)
    elif cell.decomposition_reason is not None:
        yield _metric("step_exposed", "part of a step: exposed", None, "s", cell.decomposition_reason)
    for reading in (*cell.usage, *cell.readings):
        yield _metric(
            reading.name, one_line(reading.name.replace("_", " "), MAX_REASON), reading.estimate, reason=reading.reason
        )
    for message in cell.messages:
        size = {MESSAGE: str(message.message_bytes)}
        yield _metric("message", "one collective operation", message.time_s, labels=size)
        yield _metric("algorithm_bandwidth", "message ÷ time", message.algorithm_bandwidth, labels=size)
        yield _metric("bus_bandwidth", "as nccl-tests defines it", message.bus_bandwidth, labels=size)
    for times in cell.step_times:
        median = Estimate(value=times.median_s, low=None, high=None, n=times.trials, unit="s")
        yield _metric("rank_step", "median step of a rank over all trials", median, labels={RANK: str(times.rank)})


def trial_record(trial: Trial, measures: TrialMeasures | None) -> TrialRecord:
    """A trial as a record (pure).

    Args:
        trial: The trial.
        measures: Its numbers; ``None`` where they do not count for its cell.
    """
    values = {}
    if measures is not None:
        values = {
            name: value
            for reading in _trial_readings(trial, measures)
            for name, value in [_plain(reading)]
            if value is not None
        }
    counted = measures is not None
    return TrialRecord(
        round=trial.round,
        started_at=trial.started_at,
        wall_s=trial.wall_s,
        outcome=trial.outcome,
        reason=_shown(trial.reason),
        values=values,
        step_s=tuple(slowest_steps(trial.ranks)) if counted else (),
        steps_per_entry=trial.ranks[0].steps_per_entry if counted else 1,
        losses=_losses(trial) if counted else (),
    )


def trial_records(cell: Cell, trials: Sequence[Trial]) -> Iterator[TrialRecord]:
    """The records of the trials of a cell by round."""
    measures = {measured.round: measured for measured in cell.measures} if cell.outcome != "invalid" else {}
    for trial in sorted(trials, key=lambda trial: trial.round):
        yield trial_record(trial, measures.get(trial.round) if trial.outcome == "ok" else None)


def _trial_readings(trial: Trial, measures: TrialMeasures) -> Iterable[Reading]:
    yield Reading(name="throughput", value=measures.throughput, unit=rate_unit(measures.unit))
    yield Reading(name="step", value=measures.step_s, unit="s")
    yield Reading(name="host_step", value=measures.host_step_s, unit="s")
    yield from measures.usage
    yield from trial.ranks[0].readings


def _plain(reading: Reading) -> tuple[str, float | None]:
    unit = base_unit(reading.name, reading.unit)
    return metric_name(reading.name, unit.suffix), None if reading.value is None else reading.value * unit.factor


def _losses(trial: Trial) -> tuple[tuple[int, float], ...]:
    first = trial.ranks[0]
    if first.program is not None:
        reported = first.program.reported
        return tuple((loss.step, loss.value) for loss in reported.losses) if reported else ()
    return tuple(enumerate(first.proof.losses, 1)) if first.proof and first.kind == "training" else ()


def _metric(
    quantity: str,
    description: str,
    estimate: Estimate | None,
    unit: str = "1",
    reason: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Metric:
    base = base_unit(quantity, estimate.unit if estimate else unit)
    return Metric(
        quantity=quantity,
        unit=base.suffix,
        description=description,
        estimate=_scaled(estimate, base.factor) if estimate else None,
        reason=None if estimate else _shown(reason) or "not measured",
        labels=dict(labels or {}),
    )


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    if factor == 1:
        return estimate
    low, high = (None if bound is None else bound * factor for bound in (estimate.low, estimate.high))
    return estimate.model_copy(update={"value": estimate.value * factor, "low": low, "high": high})


def _once_each(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """The first metric of each name: a plugin's reading may have the name of another."""
    taken: set[str] = set()
    for metric in metrics:
        names = {f"{name} {metric.labels}" for name in (metric.name, *metric.values)}
        if not names & taken:
            taken |= names
            yield metric


def _shown(text: str | None) -> str | None:
    return one_line(mask_secrets(text), MAX_REASON) if text else None
