"""Environment variables of the ranks as axes of a sweep: ``--env NCCL_PROTO=LL,Simple``, or ``[env]`` in a suite."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Mapping, Sequence

from bench.core.text import one_line, printable
from bench.host.given_variables import refusal_of
from bench.host.secrets import mask_argument
from harness.errors import UsageError

VariableAxes = Mapping[str, tuple[str, ...]]
"""The values of each variable by its name; an empty value removes the variable."""
MAX_VARIABLES, MAX_VALUE_LENGTH = 32, 200
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
MAX_SHOWN_LENGTH = 60
EXAMPLE = "expected NAME=VALUE, for example --env NCCL_PROTO=LL,Simple"


def parse_variables(settings: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The values of ``--env``: ``["NCCL_PROTO=LL,Simple"]`` → ``{"NCCL_PROTO": ("LL", "Simple")}``.

    Several values are separated by commas, or the setting is repeated. A value that holds a comma is quoted as in a
    CSV file: ``NCCL_IB_HCA="mlx5_0,mlx5_1"``.

    Raises:
        UsageError: A setting has another form.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--env {_shown(setting)}: {EXAMPLE}")
        try:
            (values,) = csv.reader([text], strict=True) if text else ([""],)
        except (csv.Error, ValueError):
            raise UsageError(
                f"--env {_shown(setting)}: a value is one line, and a quoted one ends with its quote, before a comma "
                "or the end"
            ) from None
        axes[name] = (*axes.get(name, ()), *values)
    return axes


def variable_combinations(axes: VariableAxes) -> list[dict[str, str]]:
    """Every combination of the variables' values; one without any where no variable is given (pure).

    Raises:
        UsageError: A name or a value is wrong, or ranks can't be given the variable.
    """
    if len(axes) > MAX_VARIABLES:
        raise UsageError(f"env: names {len(axes)} variables, at most {MAX_VARIABLES}", ("env",))
    for name, values in axes.items():
        if problem := _problem_of(name, values):
            raise UsageError(f"env: {problem}", ("env", name))
    names = sorted(axes)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(axes[name] for name in names))]


def _problem_of(name: str, values: Sequence[str]) -> str | None:
    if not NAME.fullmatch(name):
        return f"'{one_line(name, MAX_SHOWN_LENGTH)}' is no name of a variable: letters, digits and _"
    if not values:
        return f"{name} is empty: name at least one value; an empty one removes the variable"
    for value in values:
        if reason := refusal_of(name, value):
            return f"{name} {reason}"
        if len(value) > MAX_VALUE_LENGTH or printable(value) != value:
            return f"{name} = {_shown(value)}: a value has at most {MAX_VALUE_LENGTH} characters, all of them visible"
        if values.count(value) > 1:
            return f"{name} names {_shown(value) or 'the empty value'} twice"
    return None


def _shown(text: str) -> str:
    return one_line(mask_argument(text), MAX_SHOWN_LENGTH)
