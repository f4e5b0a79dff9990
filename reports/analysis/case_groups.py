"""Which cases belong together: those of one workload, whose backends, rank counts and axes are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from bench.core.case import Case
from reports.analysis import case_titles
from reports.analysis.axes import find_axes, without_axes

MAX_DETAILED_CASES = 200
"""A page of a chapter for each of thousands can't be opened: the first ones have chapters."""
MAX_CURVES = 8
"""A figure of more curves can't be read: the values of axes then have figures of their own."""

GroupT = TypeVar("GroupT")


def detailed_groups(groups: Sequence[GroupT], size: Callable[[GroupT], int]) -> Sequence[GroupT]:
    """The first groups whose cases are at most :data:`MAX_DETAILED_CASES` together; at least one."""
    cases = 0
    for number, group in enumerate(groups):
        cases += size(group)
        if number and cases > MAX_DETAILED_CASES:
            return groups[:number]
    return groups


def detailed_cases(cases: Sequence[Case]) -> Sequence[Case]:
    """The cases of :func:`detailed_groups`."""
    if len(cases) <= MAX_DETAILED_CASES:
        return cases
    return [case for group in detailed_groups(case_groups(cases), len) for case in group]


def case_groups(cases: Sequence[Case]) -> tuple[tuple[Case, ...], ...]:
    """The cases of each group of :func:`reports.analysis.findings.group_cells`."""
    return tuple(tuple(cases[number] for number in numbers) for numbers, _ in group_numbers(cases))


def group_numbers(cases: Sequence[Case]) -> Iterator[tuple[list[int], bool]]:
    """The positions of the cases of each group, and whether the values of axes are merged in it."""
    axes = find_axes(cases)
    for group in _grouped(range(len(cases)), lambda number: case_titles.group_key(without_axes(cases[number], axes))):
        if len({cases[number].curve for number in group}) > MAX_CURVES:
            yield from ((part, False) for part in _grouped(group, lambda number: case_titles.group_key(cases[number])))
        else:
            yield group, True


def _grouped(numbers: Iterable[int], key: Callable[[int], tuple[str, ...]]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.values())
