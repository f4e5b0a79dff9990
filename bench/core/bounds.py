"""Bounds of recorded numbers, in one place: records are made, merged and read with these types.

Records come from other machines, plugins and files. Within these bounds nothing that is computed from a record
overflows, takes memory without end or is a division by zero. They are far beyond what can be measured.
"""

from __future__ import annotations

import math
import numbers
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from bench.core.text import one_line

MAX_SECONDS = 1e12
MAX_WORK = 1e30
MAX_RANKS = 1_000_000
MAX_COUNT = 2**53
"""Larger integers are not exact in JSON."""
MAX_STEPS_PER_ENTRY = 1_000_000
"""Of a block of steps that is timed as a whole: the number of all steps stays a 64-bit integer."""
MAX_BYTES = 2**62
"""What stands for a bucket without a limit; SQLite and Parquet have integers of 63 bits."""

Duration = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
"""In seconds."""
StepDuration = Annotated[float, Field(ge=1e-12, le=MAX_SECONDS, allow_inf_nan=False)]
"""In seconds, of one or more whole steps: none takes no time."""
PositiveSeconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
"""A length that is chosen: of a window, of an interval, of a time limit."""
Moment = Annotated[float, Field(ge=-MAX_SECONDS, le=MAX_SECONDS, allow_inf_nan=False)]
"""Seconds of some clock."""
Work = Annotated[float, Field(ge=0, le=MAX_WORK, allow_inf_nan=False)]
"""Operations, bytes or another unit of work."""
Amount = Annotated[float, Field(ge=1e-30, le=MAX_WORK, allow_inf_nan=False)]
"""A rate, or work that is never nothing."""
Measured = Annotated[float, Field(ge=-MAX_WORK, le=MAX_WORK, allow_inf_nan=False)]
"""A measured number in any unit."""
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
PositiveCount = Annotated[int, Field(ge=1, le=MAX_COUNT)]
StepsPerEntry = Annotated[int, Field(ge=1, le=MAX_STEPS_PER_ENTRY)]
RankCount = Annotated[int, Field(ge=1, le=MAX_RANKS)]
RankNumber = Annotated[int, Field(ge=0, lt=MAX_RANKS)]
RoundNumber = Annotated[int, Field(ge=0, lt=2**31)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]

MAX_UNIT_LENGTH = 24
UNIT = re.compile(rf"[^\W\d_][\w·%-]{{0,{MAX_UNIT_LENGTH - 1}}}")


def unit_problem(unit: object) -> str | None:
    """Why this is no unit of work, as the end of a sentence; ``None`` where it is one."""
    if isinstance(unit, str) and UNIT.fullmatch(unit):
        return None
    shown = one_line(repr(unit), 2 * MAX_UNIT_LENGTH)
    return f"is {shown}; it is one word of at most {MAX_UNIT_LENGTH} letters, such as samples, bytes or tokens"


def amount_problem(amount: object) -> str | None:
    """Why this is no amount of work, as the end of a sentence; ``None`` where it is one."""
    value = as_number(amount)
    if value is not None and 1e-30 <= value <= MAX_WORK:
        return None
    return f"is {one_line(repr(amount), 2 * MAX_UNIT_LENGTH)}; it is a number above 0, and at most {MAX_WORK:g}"


def as_number(value: Any) -> float | None:
    """A number of any library (of NumPy, a tensor, a decimal) as Python's; ``None`` for what is none, or not finite."""
    if isinstance(value, bool | str | bytes | complex) or value is None:
        return None
    if not isinstance(value, numbers.Number) and not hasattr(value, "__float__"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _check_unit(unit: str) -> str:
    if problem := unit_problem(unit):
        raise ValueError(problem)
    return unit


def _check_timestamp(text: str) -> str:
    try:
        year = datetime.fromisoformat(text).year
    except ValueError:
        raise ValueError("it is no time in ISO 8601") from None
    # A year at either end overflows in another time zone.
    if not 1970 <= year < 9999:
        raise ValueError("its year is not from 1970 to 9998")
    return text


Unit = Annotated[str, AfterValidator(_check_unit)]
"""The name of a unit of work: any word."""
Timestamp = Annotated[str, AfterValidator(_check_timestamp)]
"""ISO 8601."""

MAX_SHOWN_LENGTH = 40


def describe_invalid(problem: ValidationError) -> str:
    """Which field of a record has which value, and what is allowed: ``ranks.0.step_s.3 is inf: …``, in one line."""
    first = problem.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if isinstance(first["input"], str | bytes | int | float | None) and place:
        return one_line(f"{place} is {one_line(repr(first['input']), MAX_SHOWN_LENGTH)}: {message}")
    return one_line(f"{place}: {message}" if place else message)
