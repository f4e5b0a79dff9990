"""The title of a sweep that was given none: what ran."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core.case import Case
from reports.analysis import formatting
from reports.analysis.program_titles import is_program, program_title

MAX_NAMED = 4
"""The most names of a list in a title; of more, it counts the others."""


def sweep_title(cases: Iterable[Case]) -> str:
    """``mnist and synthetic: single, ddp and horovod at 1–8 ranks``.

    Args:
        cases: Those that were planned, skipped ones too.
    """
    cases = list(cases)
    if not cases:
        return "nothing was planned"
    workloads = enumerate_names([_workload_name(case) for case in cases])
    backends = enumerate_names([case.backend for case in cases])
    site = enumerate_names([case.site for case in cases if case.site != "local"])
    scaling = " under weak scaling" if {case.scaling for case in cases} == {"weak"} else ""
    return f"{workloads}: {backends} at {_rank_counts(cases)}{scaling}{f' on {site}' if site else ''}"


def enumerate_names(names: Sequence[str]) -> str:
    """``a, b and c``, each once; of many the first, and how many more. Empty for none."""
    different = list(dict.fromkeys(names))
    if len(different) > MAX_NAMED + 1:
        different = [*different[:MAX_NAMED], f"{len(different) - MAX_NAMED} more"]
    return " and ".join(filter(None, (", ".join(different[:-1]), *different[-1:])))


def _workload_name(case: Case) -> str:
    return program_title(case) if is_program(case) else case.workload


def _rank_counts(cases: Sequence[Case]) -> str:
    counts = sorted({case.ranks for case in cases})
    return formatting.ranks(counts[0]) if len(counts) == 1 else f"{counts[0]:,}–{formatting.ranks(counts[-1])}"
