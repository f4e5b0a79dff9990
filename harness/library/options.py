"""Options of the command ``sweep`` as arguments of a function: typed, and under the same names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict

from harness.cli.app import load_command
from harness.errors import UsageError, suggest_name

Value = str | int | float | bool
Values = Value | Sequence[Value]
Files = str | PathLike[str] | Sequence[str | PathLike[str]]
OWN_ARGUMENTS = frozenset({"suite", "store"})
NO_OPTIONS = frozenset({"json", "dry-run", "verbose", "help"})
"""Options of the command that say how it prints."""


class SweepOptions(TypedDict, total=False):
    """The options of ``python -m harness sweep`` by name, with underscores: ``--samples-per-step`` is
    ``samples_per_step``. An option that takes several values takes a sequence."""

    backends: Values
    workloads: Values
    ranks: Values
    nodes: Values
    ranks_per_node: Values
    scaling: Values
    batch: Values
    threads: int
    device: str
    seed: int
    set: Mapping[str, Values]
    """``{"backend.ddp.bucket_cap_mb": [1, 25]}``: several values are an axis."""
    env: Mapping[str, Values]
    """Environment variables of the ranks: several values are an axis."""
    net: Values
    inject: str
    repeats: int
    steps: int
    window: float
    warmup: int
    timeout: float
    tolerance: float
    precision: float | str
    """A share (0.02) or a text (``"2%"``)."""
    until: str
    """``"decided"``."""
    margin: float | str
    max_repeats: int
    budget: float | str
    """Seconds, or a text (``"10m"``)."""
    telemetry: str
    script: str | Sequence[str]
    launcher: Values
    whole: bool
    samples_per_step: int | str
    unit: str
    metric: str
    metric_scope: str
    plugin: Files
    price_per_hour: float | str
    """An amount, or a text with currency and basis (``"2.50 USD/gpu"``)."""
    co2: float
    """Grams of CO₂ a kilowatt-hour."""
    target: float
    site: str
    title: str
    note: str
    resume: bool
    shared: bool
    build: bool
    out: str | PathLike[str]
    markdown: str | PathLike[str]


def sweep_arguments(options: Mapping[str, Any]) -> list[str]:
    """The words of the command for some options. ``None`` leaves an option out.

    Raises:
        UsageError: An option is unknown, or has a value of a kind that it can't take.
    """
    known = {flag.removeprefix("--").replace("-", "_"): (flag, parameter) for flag, parameter in _flags()}
    words: list[str] = []
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"run: no option {name}{suggest_name(name, known)}")
        flag, parameter = known[name]
        if value is not None:
            words += _words(flag, value, several=parameter.multiple, is_switch=parameter.is_flag)
    return words


def option_names() -> list[str]:
    """The names that :func:`sweep_arguments` takes."""
    return [flag.removeprefix("--").replace("-", "_") for flag, _ in _flags()]


def _flags() -> Iterator[tuple[str, Any]]:
    for parameter in load_command("sweep").params:
        flag = next((name for name in parameter.opts if name.startswith("--")), "")
        name = flag.removeprefix("--")
        if flag and name not in NO_OPTIONS | OWN_ARGUMENTS and not parameter.hidden:
            yield flag, parameter


def _words(flag: str, value: Any, *, several: bool, is_switch: bool) -> Iterator[str]:
    if is_switch:
        if not isinstance(value, bool):
            raise UsageError(f"run: {flag} {value!r}: expected True or False")
        if value:
            yield flag
    elif isinstance(value, Mapping):
        for name, values in value.items():
            yield from (f"{flag}={name}={_quoted(item)}" for item in _items(values))
    elif isinstance(value, str | PathLike) or not isinstance(value, Sequence):
        yield f"{flag}={_text(value)}"
    elif several:
        yield from (f"{flag}={_text(item)}" for item in value)
    else:
        raise UsageError(f"run: {flag} takes one value, not {len(value)}")


def _items(values: Any) -> Sequence[Any]:
    return values if isinstance(values, Sequence) and not isinstance(values, str) else (values,)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: Any) -> str:
    """A value as these options take it: quoted as in a CSV file where it holds a comma or a quote."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_text(value)])
    return text.getvalue() if _text(value) else ""
