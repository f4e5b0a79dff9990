"""The options of a user's own model: those of the step, with the defaults that the file gives, and its own."""

from __future__ import annotations

from copy import copy
from typing import Any, Literal, cast, get_args

from pydantic import Field, ValidationError, create_model

from bench.core.bounds import describe_invalid
from bench.plugins.backend import Options
from bench.workloads.training import StepOptions

OWN = "own"
"""The value of the option ``optimizer`` that stands for the file's optimizer."""


class LoadingOptions(Options):
    """How the samples of a Dataset are read, which does not change the work."""

    workers: int = Field(
        0, ge=0, le=256, description="processes of a rank that read the samples of a Dataset; 0: the rank does"
    )


def with_defaults(base: type[StepOptions], defaults: dict[str, Any], *, has_own_optimizer: bool) -> type[StepOptions]:
    """The options of a workload. Where their defaults are not those of ``base``, cases name their values.

    Args:
        base: The options, with their own defaults.
        defaults: Other defaults, by name.
        has_own_optimizer: Whether the optimizer of the file is one of the choices, and the default.

    Raises:
        TypeError: There is no option of a name.
        ValueError: A default is refused.
    """
    bases = (base,) if issubclass(base, LoadingOptions) else (base, LoadingOptions)
    known = [name for one in bases for name in one.model_fields]
    unknown = [name for name in defaults if name not in known]
    if unknown:
        raise TypeError(
            f"TrainingWorkload has no argument '{unknown[0]}'; beside its own it takes the options {', '.join(known)}"
        )
    changed: dict[str, Any] = {}
    if has_own_optimizer:
        names = get_args(base.model_fields["optimizer"].annotation)
        description = f"{OWN}: as the file makes it"
        changed["optimizer"] = (Literal[(OWN, *names)], Field(OWN, description=description))
    options = _derive(bases, changed)
    try:
        given = options(**defaults)
    except ValidationError as problem:
        raise ValueError(f"TrainingWorkload({describe_invalid(problem)})") from None
    fields: dict[str, Any] = {}
    for name in defaults:
        field = copy(options.model_fields[name])
        field.default = getattr(given, name)
        fields[name] = (field.annotation, field)
    made = _derive((options,), fields)
    made.always_named = frozenset([*defaults, *(["optimizer"] if has_own_optimizer else [])])
    return made


def _derive(bases: tuple[type[Options], ...], fields: dict[str, Any]) -> type[StepOptions]:
    """A class of these, the first of which has the options of a step."""
    return cast("type[StepOptions]", create_model(bases[0].__name__, __base__=bases, **fields))
