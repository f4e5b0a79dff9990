"""The options of a backend, a workload or a site, as a suite sets them: every combination of their values, checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.core.case import Scalar
from bench.plugins.backend import Options
from harness.errors import UsageError, describe_validation_error


def option_combinations(
    scope: str, options: type[Options], axes: Mapping[str, tuple[Scalar, ...]]
) -> list[dict[str, Scalar]]:
    """Every combination of the axes' values, checked, each as what differs from the defaults.

    Raises :class:`UsageError` that names the option and its value.
    """
    defaults = options().model_dump()
    combinations: list[dict[str, Scalar]] = []
    for values in itertools.product(*axes.values()):
        combination: dict[str, Any] = dict(zip(axes, values, strict=True))
        try:
            dumped = options(**combination).model_dump()
        except ValidationError as problem:
            first = problem.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ", ".join(combination)
            value = combination.get(name, "")
            display_value = redact_credentials(str(value))
            message = (
                f"option {scope}.{name} = {display_value}: "
                f"{describe_validation_error(dict(first), options.model_fields)}"
            )
            raise UsageError(message, ("options", scope, name)) from None
        overrides = {name: value for name, value in dumped.items() if value != defaults[name]}
        if overrides in combinations:
            raise UsageError(f"option {scope}: {combination} is named twice", ("options", scope, *axes))
        combinations.append(overrides)
    return combinations


def redact_credentials(text: str) -> str:
    """``tcp://me:secret@host`` → ``***@host`` (pure): what is refused is shown, and may stay in a log."""
    return re.sub(r"(?s).*:.*@", "***@", text)
