"""The steps of one trial as a table for other tools: a row for each timed entry of each rank."""

from __future__ import annotations

from typing import Annotated

from bench.core.frozen_model import FrozenModel
from bench.core.records import RankRecord, Trial
from reports.formats.columns import Column, PlainValue

HOST_IS_DEVICE = "the host computes the steps itself, or the record is older than this reading"


class StepRow(FrozenModel):
    """A step of one rank, or a block of steps where a device marks no single ones.

    The order of the fields is the order of the columns; new ones are appended.
    """

    sweep: Annotated[str, Column("Id of the sweep.")]
    case: Annotated[str, Column("Key of the case.")]
    round: Annotated[int, Column("Number of the repeat, from 0.")]
    rank: Annotated[int, Column("Number of the rank.")]
    host: Annotated[str, Column("Name of its machine.")]
    entry: Annotated[int, Column("Number of the entry in the measured window of its rank, from 0.")]
    steps: Annotated[int, Column("Steps that the entry stands for: more than 1 where a GPU marks blocks.", "steps")]
    step_s: Annotated[float, Column("Time of a step; of a block of steps, their mean.", "s")]
    host_step_s: Annotated[
        float | None, Column("Time in which the host enqueued a step; missing where `host_step_reason` says why.", "s")
    ]
    host_step_reason: Annotated[str | None, Column("Why `host_step_s` is missing.")]


def step_columns(sweep: str, trial: Trial) -> dict[str, list[PlainValue]]:
    """The values of each column, by rank and then in the order of the steps. ``sweep``: the id of the trial's."""
    columns: dict[str, list[PlainValue]] = {name: [] for name in StepRow.model_fields}
    for record in sorted(trial.ranks, key=lambda record: record.rank):
        count = len(record.step_s)
        columns["sweep"] += [sweep] * count
        columns["case"] += [trial.case.key] * count
        columns["round"] += [trial.round] * count
        columns["rank"] += [record.rank] * count
        columns["host"] += [record.host] * count
        columns["entry"] += range(count)
        columns["steps"] += _steps_of_entries(record)
        columns["step_s"] += record.step_s
        columns["host_step_s"] += record.host_step_s or [None] * count
        columns["host_step_reason"] += [None if record.host_step_s else HOST_IS_DEVICE] * count
    return columns


def _steps_of_entries(record: RankRecord) -> list[int]:
    steps = [record.steps_per_entry] * len(record.step_s)
    return [*steps[:-1], record.last_entry_steps or record.steps_per_entry]
