"""The axes of a sweep: settings in which cells differ that do the same work, and what one value gains over another.

An axis is the batch, an option of a backend, an option of the training step that all training workloads share, an
argument of a user's program, or an environment variable of the ranks. Options that change the work itself, such as a
model and its size, are none: a throughput in samples of one model says nothing about another.

Two cells are compared where everything else is equal, the number of ranks too. The gain of a value is its throughput ÷
that of the base value, with Welch's interval over trials (:func:`reports.analysis.stats.ratio`). The base is the
default where it was measured, else the first value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from pydantic import Field

from bench.core.case import Case, Scalar
from bench.core.frozen_model import FrozenModel
from bench.plugins import registry
from bench.rank.program.options import ScriptOptions
from bench.workloads.own_model.options import LoadingOptions
from bench.workloads.training import StepOptions
from reports.analysis.case_titles import CaseFinding, case_labels, value_text
from reports.analysis.cells import Cell, CellLabels
from reports.analysis.label_order import natural_key
from reports.analysis.stats import Estimate, ratio

BATCH = "batch"
UNSET, INHERITED = "unset", "as inherited"
"""Of a variable: the case unsets it, or leaves it as it is."""
SCRIPT = "script"
DEFAULT = "default"
"""A default whose value is known to the plugin or its library alone."""
STEP_DEFAULTS: Mapping[str, Scalar | None] = StepOptions().model_dump() | LoadingOptions().model_dump()


class Axis(FrozenModel):
    """A setting with several values in a sweep."""

    key: str
    """``batch``, ``workload.mnist.precision``, ``backend.ddp.bucket_cap_mb``, ``env.NCCL_PROTO``."""
    values: tuple[str, ...]
    """All values, the default included, in their natural order."""
    base: str
    """The value that the others are compared with."""
    base_is_default: bool

    @property
    def title(self) -> str:
        """``precision``"""
        return self.key.rpartition(".")[2]

    @property
    def base_title(self) -> str:
        """``float32 (the default)``"""
        return f"{self.base} (the default)" if self.base_is_default and self.base != DEFAULT else self.base


class AxisPoint(CaseFinding):
    """One cell on an axis."""

    labels: CellLabels = Field(exclude=True, repr=False)
    """Without the axis's own value."""
    value: str
    throughput: Estimate | None
    gain: Estimate | None
    """Its throughput ÷ that of the base value; ``None`` where either is unknown: :attr:`reason` says why."""
    reason: str | None = None


class AxisComparison(FrozenModel):
    """The cells of one axis that are compared with each other, at least two."""

    axis: Axis
    points: tuple[AxisPoint, ...]
    """By what else they have in common, by rank count, and by value, the base first."""


def settings_of(case: Case) -> dict[str, str]:
    """The settings of a case that may be an axis, by their keys: those that differ from their defaults, and the batch
    (pure)."""
    step = {f"workload.{case.workload}.{name}": case.workload_options[name] for name in _step_options(case)}
    backend = {f"backend.{case.backend}.{name}": value for name, value in case.backend_options.items()}
    batch = {BATCH: case.batch} if case.batch > 1 else {}
    variables = {f"env.{name}": value or UNSET for name, value in case.env.items()}
    return {key: value_text(value) for key, value in (step | backend | batch | variables).items()}


def value_on(case: Case, key: str) -> str | None:
    """The value of a setting in a case, its default included; ``None`` where the case has no such setting."""
    settings = settings_of(case)
    if key in settings:
        return settings[key]
    scope, _, rest = key.partition(".")
    owner, _, name = rest.partition(".")
    if scope == "env":
        return INHERITED
    if scope == "workload" and name in STEP_DEFAULTS and case.workload != SCRIPT:
        return value_text(_workload_defaults(case.workload).get(name)) if owner == case.workload else None
    if scope == "backend":
        return _backend_default(case, name) if owner == case.backend else None
    return None


def without_setting(case: Case, key: str) -> Case:
    """The case with a setting at its default: equal for all values of an axis (pure)."""
    if key == BATCH:
        return case.model_copy(update={"batch": 1})
    scope, name = key.partition(".")[0], key.rpartition(".")[2]
    field = scope if scope == "env" else f"{scope}_options"
    kept = {option: value for option, value in getattr(case, field).items() if option != name}
    return case.model_copy(update={field: kept})


def without_axes(case: Case, axes: Sequence[Axis]) -> Case:
    """The case with all axes at their defaults."""
    for axis in axes:
        if value_on(case, axis.key) is not None:
            case = without_setting(case, axis.key)
    return case


def find_axes(cases: Sequence[Case]) -> tuple[Axis, ...]:
    """The axes along which some of the cases are equal otherwise, in the order of their first values."""
    keys = dict.fromkeys(key for case in cases for key in settings_of(case))
    return tuple(axis for key in keys if (axis := _axis(key, cases)) is not None)


def _axis(key: str, cases: Sequence[Case]) -> Axis | None:
    by_rest: dict[str, set[str]] = {}
    defaults: set[str] = set()
    for case in cases:
        if (value := value_on(case, key)) is not None:
            by_rest.setdefault(without_setting(case, key).key, set()).add(value)
            if key not in settings_of(case):
                defaults.add(value)
    values = sorted({value for group in by_rest.values() if len(group) > 1 for value in group}, key=natural_key)
    if not values:
        return None
    default = next((value for value in values if value in defaults), None)
    # Without a variable the libraries choose: nearest to a default.
    first = UNSET if key.startswith("env.") and UNSET in values else values[0]
    return Axis(key=key, values=tuple(values), base=default or first, base_is_default=default is not None)


def compare_axes(cells: Sequence[Cell]) -> tuple[AxisComparison, ...]:
    """What each value of each axis gains, at each number of ranks."""
    axes = find_axes([cell.case for cell in cells])
    return tuple(
        AxisComparison(axis=axis, points=points)
        for axis in axes
        if not _acts_after_window(axis) and (points := tuple(_points(axis, cells, axes)))
    )


def _acts_after_window(axis: Axis) -> bool:
    """Whether its values differ in what is done after the measured window: throughput says nothing about them."""
    return axis.key.startswith("workload.") and axis.title in StepOptions.after_window


def _points(axis: Axis, cells: Sequence[Cell], axes: Sequence[Axis]) -> Iterator[AxisPoint]:
    by_rest: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        value = value_on(cell.case, axis.key)
        if value is not None and cell.case.fault is None:
            by_rest.setdefault(without_setting(cell.case, axis.key).key, {})[value] = cell
    groups = [group for group in by_rest.values() if len(group) > 1]
    curves = list(dict.fromkeys(without_setting(next(iter(group.values())).case, axis.key).curve for group in groups))
    others = [other for other in axes if other != axis]
    for group in sorted(groups, key=lambda group: _place(next(iter(group.values())).case, axis, curves)):
        base = group.get(axis.base)
        for value in sorted(group, key=lambda value: (value != axis.base, axis.values.index(value))):
            yield _point(group[value], value, base, axis, others)


def _place(case: Case, axis: Axis, curves: Sequence[str]) -> tuple[int, int]:
    return curves.index(without_setting(case, axis.key).curve), case.ranks


def _point(cell: Cell, value: str, base: Cell | None, axis: Axis, others: Sequence[Axis]) -> AxisPoint:
    reason = next(
        (
            f"{axis.title}={name} {'has no cell' if other is None else f'is {other.outcome}: {other.reason}'}"
            for name, other in ((axis.base, base), (value, cell))
            if other is None or not other.rates
        ),
        None,
    )
    gain = ratio(cell.rates, base.rates) if reason is None and base is not None else None
    if base is cell and gain is not None:
        # A value is exactly as fast as itself.
        gain = gain.model_copy(update={"low": None, "high": None})
    return AxisPoint(
        case=cell.case,
        labels=with_axis_values(cell, others, hidden=(axis,)).labels,
        value=value,
        throughput=cell.throughput,
        gain=gain,
        reason=reason,
    )


def with_axis_values(cell: Cell, axes: Sequence[Axis], hidden: Sequence[Axis] = ()) -> Cell:
    """The cell with labels whose backend names the value on each axis, defaults too, and whose workload names none.

    Args:
        cell: The cell.
        axes: The axes to name.
        hidden: Further axes, which no label names.
    """
    titles = Counter(axis.title for axis in axes)
    values = {
        axis.title if titles[axis.title] == 1 else axis.key: value
        for axis in axes
        if (value := value_on(cell.case, axis.key)) is not None
    }
    labels = case_labels(without_axes(cell.case, [*axes, *hidden]), values)
    return cell.model_copy(update={"labels": cell.labels.model_copy(update=labels.model_dump())})


def _step_options(case: Case) -> list[str]:
    """The options of a workload that may be an axis: of a program, its arguments."""
    if case.workload == SCRIPT:
        return [name for name in case.workload_options if name not in ScriptOptions.model_fields]
    return [name for name in case.workload_options if name in STEP_DEFAULTS]


def _backend_default(case: Case, name: str) -> str:
    # A backend that came with the case is not loaded: a report runs no code of a stored sweep.
    if any(plugin.kind == registry.BACKENDS.name and plugin.name == case.backend for plugin in case.plugins):
        return DEFAULT
    value = _backend_defaults(case.backend).get(name)
    return DEFAULT if value is None else value_text(value)


@cache
def _workload_defaults(workload: str) -> Mapping[str, Scalar | None]:
    """The defaults of the options that training workloads share; one of the project may have others."""
    try:
        if registry.WORKLOADS.source(workload) is not None:
            return STEP_DEFAULTS
        own = registry.WORKLOADS.load(workload).options().model_dump()
    except Exception:
        # It came with the case, or is one of another installation.
        return STEP_DEFAULTS
    return {name: own.get(name, default) for name, default in STEP_DEFAULTS.items()}


@cache
def _backend_defaults(backend: str) -> Mapping[str, Scalar | None]:
    try:
        return registry.BACKENDS.load(backend).options().model_dump()
    except Exception:
        # It may be a backend of another installation.
        return {}
