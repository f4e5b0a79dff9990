"""Short titles of the groups of a sweep: the workload once, then only what tells its groups apart, defaults named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from bench.core.case import Case, Scalar
from bench.plugins import registry
from reports.analysis.axes import DEFAULT
from reports.analysis.case_titles import net_title, value_text, with_short_workload
from reports.analysis.cells import Cell
from reports.analysis.findings import CellGroup, group_cells
from reports.analysis.formatting import message_size
from reports.analysis.program_titles import is_program, program_options, program_title


def short_titles(groups: Sequence[CellGroup]) -> tuple[str, ...]:
    """A title for each group, different from all others.

    ``mnist`` where a workload has one group; ``synthetic (model=mlp)``, ``synthetic (model=cnn)`` where it has several;
    the full title of a group where that does not tell it apart.
    """
    by_name: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        by_name.setdefault(_name(group), []).append(number)
    titles: dict[int, str] = {}
    for name, numbers in by_name.items():
        for number, parts in zip(numbers, _telling_traits([groups[one].cells[0].case for one in numbers]), strict=True):
            titles[number] = f"{name} ({', '.join(parts)})" if parts else name
    counts = Counter(titles.values())
    return tuple(titles[number] if counts[titles[number]] == 1 else group.title for number, group in enumerate(groups))


def _telling_traits(cases: Sequence[Case]) -> list[list[str]]:
    """For each of the cases of one workload the traits in which they differ."""
    names = dict.fromkeys(name for case in cases for name in _options(case))
    columns = [
        *([f"{name}={_value(case, name)}" for case in cases] for name in names),
        *zip(*map(_traits, cases), strict=True),
    ]
    telling = [column for column in columns if len(set(column)) > 1]
    return [[column[number] for column in telling] for number in range(len(cases))]


def named_cells(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells by group, with the short titles of their workloads: ``synthetic (model=cnn) · ddp/gloo · 2 ranks``."""
    groups = group_cells(cells)
    titled = zip(short_titles(groups), groups, strict=True)
    return tuple(with_short_workload(cell, title) for title, group in titled for cell in group.cells)


def options_text(group: CellGroup) -> str:
    """``compute_ms=80, model=emulated``: the options of a group that differ from their defaults; empty for none."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in sorted(_options(group.cells[0].case).items()))


def _options(case: Case) -> Mapping[str, Scalar]:
    return program_options(case) if is_program(case) else case.workload_options


def _name(group: CellGroup) -> str:
    case = group.cells[0].case
    sizes = [message.message_bytes for cell in group.cells for message in cell.messages]
    name = program_title(case) if is_program(case) else case.workload
    return f"{name} of {message_size(max(sizes))}" if sizes else name


def _traits(case: Case) -> tuple[str, ...]:
    """What may tell the groups of a workload apart beside its options, each as text."""
    net = net_title(case.net) if case.net else "no shaped links"
    return (f"{case.scaling} scaling", f"batch {case.batch}", case.device, f"seed {case.seed}", net)


def _value(case: Case, name: str) -> str:
    """The value of an option as text, its default too."""
    if name in _options(case):
        return value_text(_options(case)[name])
    if any(plugin.kind == registry.WORKLOADS.name and plugin.name == case.workload for plugin in case.plugins):
        # A report runs no code of a stored sweep.
        return DEFAULT
    defaults = _defaults(case.workload)
    return value_text(defaults[name]) if name in defaults else DEFAULT


@cache
def _defaults(workload: str) -> Mapping[str, Scalar]:
    try:
        if registry.WORKLOADS.source(workload) is not None:
            return {}
        return registry.WORKLOADS.load(workload).options().model_dump()
    except Exception:
        # It may be a workload of another installation.
        return {}
