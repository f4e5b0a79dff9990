"""Whether each rank had the cores and threads that were planned for it, and which variables change what it measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core.case import Case
from bench.core.machine import NodeFacts
from bench.core.records import RankRecord, Trial
from reports.analysis.placement import cores_exceeded_on

VARIABLE_PREFIX = "variable "
"""Begins the name of a setting that is an environment variable."""


def resource_problem(case: Case, ranks: Sequence[RankRecord], nodes: Sequence[NodeFacts]) -> str | None:
    """Why a trial measured other resources than were planned, in one line, or ``None`` (pure).

    Args:
        case: The case of the trial.
        ranks: The records of its ranks.
        nodes: The machines that it ran on, other than the harness's own.
    """
    for rank in ranks:
        # A program may choose its threads itself: that is a condition, see reports.analysis.program_conditions.
        if rank.program is None and rank.threads not in (None, case.threads):
            return f"rank {rank.rank} computed with {count(rank.threads, 'thread')}, planned {case.threads}"
        if rank.planned_cores and rank.cores != rank.planned_cores:
            return f"rank {rank.rank} ran on {_cores(rank.cores)}, planned {_cores(rank.planned_cores)}"
    if case.affinity == "none" or "oversubscribed" in case.flags or "emulated_compute" in case.flags:
        return None
    if cores_exceeded_on(case, nodes):
        return None
    return _shared_cores(case, ranks)


def _shared_cores(case: Case, ranks: Sequence[RankRecord]) -> str | None:
    """Which ranks of a node had a core in common."""
    owners: dict[tuple[int, int], int] = {}
    for rank in ranks:
        for core in rank.planned_cores:
            other = owners.setdefault((case.node_of_rank(rank.rank), core), rank.rank)
            if other != rank.rank:
                return f"ranks {other} and {rank.rank} shared core {core}, and the node has cores enough"
    return None


def _cores(numbers: Sequence[int]) -> str:
    return f"core{'s' if len(numbers) != 1 else ''} {', '.join(map(str, numbers)) or 'unknown'}"


def count(number: int | None, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def variables_of(trials: Iterable[Trial]) -> dict[str, str] | None:
    """The environment variables that the ranks of trials had and that change what is measured, by name; ``None``:
    unknown, as in old records."""
    return join_variables(rank.variables for trial in trials for rank in trial.ranks)


def join_variables(each_of: Iterable[dict[str, str] | None]) -> dict[str, str] | None:
    """Variables of several ranks or cells as one; values that differ are joined by ``|``, ``unset`` among them.

    ``None`` where none are known.
    """
    known = [variables for variables in each_of if variables is not None]
    if not known:
        return None
    names = sorted({name for variables in known for name in variables})
    return {name: " | ".join(dict.fromkeys(each.get(name, "unset") for each in known)) for name in names}


def variable_settings(variables: dict[str, str] | None) -> dict[str, str]:
    """Variables as settings, which must match before two nights are compared; none where they are unknown."""
    return {f"{VARIABLE_PREFIX}{name}": value for name, value in (variables or {}).items()}
