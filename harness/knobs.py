"""The options of a backend, a workload or a site, as a suite sets them: every combination of their values, checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.backends import Options
from bench.case import Scalar
from harness.errors import UsageError, told


def choices(scope: str, options: type[Options], axes: Mapping[str, tuple[Scalar, ...]]) -> list[dict[str, Scalar]]:
    """Every combination of the axes' values, checked, each as what differs from the defaults.

    Raises :class:`UsageError` that names the option and its value.
    """
    defaults = options().model_dump()
    found: list[dict[str, Scalar]] = []
    for values in itertools.product(*axes.values()):
        given: dict[str, Any] = dict(zip(axes, values, strict=True))
        try:
            dumped = options(**given).model_dump()
        except ValidationError as problem:
            first = problem.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ", ".join(given)
            value = given.get(name, "")
            shown = without_credentials(str(value))
            message = f"option {scope}.{name} = {shown}: {told(dict(first), options.model_fields)}"
            raise UsageError(message, ("options", scope, name)) from None
        different = {name: value for name, value in dumped.items() if value != defaults[name]}
        if different in found:
            raise UsageError(f"option {scope}: {given} is named twice", ("options", scope, *axes))
        found.append(different)
    return found


def without_credentials(text: str) -> str:
    """``tcp://me:secret@host`` → ``***@host`` (pure): what is refused is shown, and may stay in a log."""
    return re.sub(r"(?s).*:.*@", "***@", text)
