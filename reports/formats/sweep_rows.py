"""The sweeps of a store as a table for other tools: one row for each."""

from __future__ import annotations

from typing import Annotated

from bench.core.frozen_model import FrozenModel
from reports.formats.columns import Column


class SweepRow(FrozenModel):
    """A stored sweep. The order of the fields is the order of the columns; new ones are appended."""

    sweep: Annotated[str, Column("Id of the sweep.")]
    started_at: Annotated[str, Column("Its start; missing where `date_problem` says why.", is_time=True)]
    finished_at: Annotated[
        str | None, Column("Its end; missing where it was interrupted, or runs still.", is_time=True)
    ]
    date_problem: Annotated[str | None, Column("What is wrong with its date; missing where nothing is.")]
    suite: Annotated[str, Column("Name of its suite.")]
    command: Annotated[str, Column("The command that ran it.")]
    cases: Annotated[int, Column("Cases that were planned.", "cases")]
    skipped: Annotated[int, Column("Cases that were skipped.", "cases")]
    rounds: Annotated[int, Column("Trials that were planned for each case.", "trials")]
    trials: Annotated[int, Column("Trials that are stored.", "trials")]
    commit: Annotated[str | None, Column("Commit of the code; missing where `commit_reason` says why.")]
    commit_reason: Annotated[str | None, Column("Why the commit is missing.")]
    changed_files: Annotated[bool | None, Column("Whether the working copy differed from the commit.")]
    environment: Annotated[str, Column("A digest of machine and versions: sweeps with the same one are comparable.")]
    host: Annotated[str, Column("Name of the machine that ran the command.")]
    system: Annotated[str, Column("Its operating system.")]
    cpu: Annotated[str, Column("Model of its processor.")]
    cores: Annotated[int, Column("Processor cores that it may use.", "cores")]
    memory_bytes: Annotated[int, Column("Its memory.", "B")]
    gpus: Annotated[tuple[str, ...], Column("Models of its GPUs.")]
    python: Annotated[str, Column("Version of Python.")]
    packages: Annotated[dict[str, str], Column("Versions of the packages that backends name.")]
    title: Annotated[str, Column("Its title; by default, what ran.")]
    note: Annotated[str | None, Column("Its note; missing without one.")]
    tags: Annotated[tuple[str, ...], Column("Its tags.")]
