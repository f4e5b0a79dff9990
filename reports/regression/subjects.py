"""The subjects of a check: the metrics of each cell, and the scaling of each curve. Pure functions of numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.core.case import Case
from reports.analysis.flags import claim_problem
from reports.regression.values import Metric

CellMeasures = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Case key → round (or pair) → name → value; names as in :func:`reports.analysis.trial_measures.measures_of`."""


@dataclass(frozen=True)
class Subject:
    """One metric of a cell, or of a cell relative to the one with the fewest ranks of its curve."""

    name: str
    metric: Metric
    curve: str
    key: str
    ranks: int
    """0 for ingested benchmarks, which have none."""
    base_key: str | None = None
    """The cell with the fewest ranks of the curve, where the metric is relative to it."""
    base_ranks: int = 1
    place: str = ""
    """What tells the place that it was measured at from the others of the night; part of :attr:`name`."""

    def at_place(self, label: str) -> Subject:
        """The same under a name that tells its place; unchanged for an empty label."""
        name = self.key if self.ranks == 0 else self.name
        return replace(self, name=f"{name} @ {label}" if label else name, place=label)

    @property
    def more_is_better(self) -> bool:
        return self.metric in ("throughput", "efficiency")

    @property
    def keys(self) -> tuple[str, ...]:
        """The cells that must be measured for this metric."""
        return (self.key,) if self.base_key is None else (self.key, self.base_key)


def subjects_of(cases: Sequence[Case]) -> tuple[Subject, ...]:
    """All subjects of these cases; for what was not measured, :func:`logs_of` is empty."""
    subjects: list[Subject] = []
    curves: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.fault is None:
            curves[case.curve].append(case)
    for curve, members in curves.items():
        members.sort(key=lambda case: case.ranks)
        for case in members:
            cell: tuple[Metric, ...] = ("step", "throughput", "memory", "energy")
            metrics = cell if case.ranks == 1 else (*cell, "exposed")
            subjects += [Subject(case.key, metric, curve, case.key, case.ranks) for metric in metrics]
        subjects += _scaling_subjects(curve, [case for case in members if claim_problem(case.flags) is None])
    return tuple(subjects)


def _scaling_subjects(curve: str, members: Sequence[Case]) -> list[Subject]:
    """Efficiency at each rank count, and under strong scaling the serial share at the largest."""
    if len(members) < 2:
        return []
    first, last = members[0], members[-1]
    subjects = [
        Subject(case.key, "efficiency", curve, case.key, case.ranks, first.key, first.ranks) for case in members[1:]
    ]
    if last.scaling == "strong":
        subjects.append(Subject(curve, "serial", curve, last.key, last.ranks, first.key, first.ranks))
    return subjects


def logs_of(subject: Subject, numbers: CellMeasures) -> dict[int, float]:
    """The judged values by round, such that more is worse: logarithms; for ``serial`` and ``exposed`` the share itself.

    ``serial`` is Karp and Flatt's (1/S − 1/p) ÷ (1 − 1/p) (1990, doi:10.1145/78607.78614), with p the ratio of ranks to
    those of the smallest cell. Rounds in which a value is missing or not positive are left out.
    """
    cell = numbers.get(subject.key, {})
    base = numbers.get(subject.base_key, {}) if subject.base_key else {}
    logs = {}
    for round_number, values in cell.items():
        value = _value(subject, values, base.get(round_number, {}))
        if value is not None and math.isfinite(value):
            logs[round_number] = value
    return logs


def _value(subject: Subject, values: Mapping[str, float], base: Mapping[str, float]) -> float | None:
    if subject.metric == "exposed":
        exposed, step_s = values.get("exposed_s"), values.get("step_s")
        return exposed / step_s if exposed is not None and step_s else None
    if subject.base_key is not None:
        rate, base_rate = values.get("rate"), base.get("rate")
        if not rate or not base_rate:
            return None
        if subject.metric == "efficiency":
            return -math.log(rate / base_rate * subject.base_ranks / subject.ranks)
        rank_ratio = subject.ranks / subject.base_ranks
        return (base_rate / rate - 1 / rank_ratio) / (1 - 1 / rank_ratio)
    names = {
        "step": ("step_s",),
        "throughput": ("rate",),
        "memory": ("gpu_memory_bytes", "memory_bytes"),
        "energy": ("joules_per_sample",),
    }
    measured = next((values[name] for name in names[subject.metric] if values.get(name)), None)
    if measured is None or measured <= 0:
        return None
    return -math.log(measured) if subject.more_is_better else math.log(measured)
