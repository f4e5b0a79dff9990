"""The largest numbers that a suite or an option may ask for; the smallest are declared with each field.

They are checked where a suite's file and flags are read, and not where a stored suite is: what was stored is read
again, whatever the limits are by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MAX_SECONDS = 1e6
"""Of one trial, 11 days: the kernel takes waits of 2³¹ milliseconds, 24 days, at most."""
MAX_BUDGET_S = 1e8
"""Of a sweep, three years."""
MAX_RANKS = 1_000_000
MAX_STEPS = 1_000_000
"""Each rank's record holds the times of its steps, 20 bytes each, and a store takes records of 32 MiB."""
MAX_NUMBER = 2**53
"""Of any option: larger integers are not exact as floating-point numbers."""

MAX_DIGITS = 24
"""Of a number in a message."""

LARGEST: Mapping[str, float] = {
    "ranks": MAX_RANKS,
    "nodes": MAX_RANKS,
    "ranks_per_node": MAX_RANKS,
    "repeats": 100_000,
    "max_repeats": 100_000,
    "batch": 10**9,
    "threads": 10_000,
    "steps": MAX_STEPS,
    "window_s": MAX_SECONDS,
    "warmup": MAX_STEPS,
    "verify_steps": 10_000,
    "tolerance": 1e6,
    "timeout_s": MAX_SECONDS,
    "budget_s": MAX_BUDGET_S,
}
"""By the field of :class:`harness.planning.suite.Suite`."""


def find_excess(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first of a suite's numbers that is too large (pure).

    Args:
        fields: The values of a suite by field; each is a number, several, or ``None``.

    Returns:
        The field and what is wrong with it; ``None`` where all are within their limits.
    """
    for name, largest in LARGEST.items():
        value = fields.get(name)
        numbers: Iterable[Any] = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if number is not None and number > largest:
                return name, f"{name} = {shorten_number(number)}: at most {largest:,.0f}"
    return None


def shorten_number(number: float) -> str:
    """A number for a message; one of hundreds of digits by its beginning (pure)."""
    text = str(number)
    return text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}… ({len(text)} digits)"


def too_large(value: Any) -> bool:
    """Whether the value of an option is a number beyond ±:data:`MAX_NUMBER` (pure)."""
    return isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER
