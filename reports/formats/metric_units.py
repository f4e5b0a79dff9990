"""Names of metrics with their unit as a suffix, in base units: ``step_seconds``, ``gpu_energy_joules_per_sample``.

The rules are those of OpenMetrics (https://prometheus.io/docs/specs/om/open_metrics_spec/, "Units and Base Units"),
which other tools read as well: a name is of ``a-z``, ``0-9`` and ``_``, its unit is its end, shares are ratios from 0
to 1.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BASE_UNITS = {
    "s": "seconds",
    "B": "bytes",
    "J": "joules",
    "W": "watts",
    "Hz": "hertz",
    "°C": "celsius",
    "×": "ratio",
    "%": "ratio",
}
"""The word for each symbol; another unit is its own word."""
SINGULAR = {"s": "second", "B": "byte", "GB": "byte"}
"""The word for each symbol below a fraction."""
FACTORS = {"%": 0.01, "s/GB": 1e-9}
"""By what a value of such a unit is multiplied."""
MAX_NAME = 80
"""Characters of a quantity, and of a unit."""
RATIOS = re.compile(
    r"speedup|efficiency|\w+_efficiency|load_balance|goodput|watching|\w+_(share|utilization|activity|capped)"
)
"""The quantities without a unit that are ratios. Others are counts, such as compiled graphs."""


class BaseUnit(NamedTuple):
    """A unit as the end of a name."""

    suffix: str
    """``joules_per_sample``; empty for a count."""
    factor: float
    """By what a value is multiplied to be in this unit."""


def base_unit(name: str, unit: str) -> BaseUnit:
    """The base unit of a quantity (pure).

    Args:
        name: The quantity: ``gpu_utilization``.
        unit: Its unit in records: ``s``, ``J/sample``, ``1``, or the name of a workload's own unit.
    """
    if unit in ("1", ""):
        return BaseUnit("ratio" if RATIOS.fullmatch(name) else "", 1.0)
    above, slash, below = unit.partition("/")
    word = BASE_UNITS.get(above) or as_name(above)
    if slash:
        word = f"{word}_per_{SINGULAR.get(below) or as_name(below)}"
    return BaseUnit(word, FACTORS.get(unit, 1.0))


def metric_name(name: str, suffix: str) -> str:
    """A quantity and its unit as one name; the unit is not said twice (pure)."""
    name = as_name(name)
    return name if not suffix or name == suffix or name.endswith(f"_{suffix}") else f"{name}_{suffix}"


def as_name(text: str) -> str:
    """Any text as a part of a name: other characters than letters, digits and ``_`` are ``_`` (pure)."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:MAX_NAME].rstrip("_") or "unnamed"
