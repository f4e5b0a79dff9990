"""Units of work and what is derived from them: a workload counts what it likes.

The work of a step is a number of ``samples``, ``bytes``, ``elements``, or whatever a workload of one's own counts
(``tokens``). Everything that divides by time or by work takes the name of its unit from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SYMBOLS = {"bytes": "B"}
"""Units with a symbol, which takes prefixes: ``MB/s``."""
SAMPLES = "samples"


def rate_unit(unit: str) -> str:
    """The unit of a throughput: ``samples/s``, ``B/s``, ``tokens/s``."""
    return f"{SYMBOLS.get(unit, unit)}/s"


def energy_unit(unit: str) -> str:
    """The unit of energy per work: ``J/sample``, ``J/B``, ``J/token``."""
    return f"J/{SYMBOLS.get(unit) or _singular(unit)}"


def _singular(unit: str) -> str:
    """``batch`` for ``batches``, ``query`` for ``queries``, ``token`` for ``tokens``; other words stay."""
    if unit.endswith("ies") and len(unit) > 4:
        return f"{unit[:-3]}y"
    if re.search(r"(ch|sh|ss|x|z)es$", unit):
        return unit[:-2]
    return unit[:-1] if unit.endswith("s") and not unit.endswith("ss") and len(unit) > 1 else unit


def join_units(units: Iterable[str]) -> str:
    """What heads several numbers: one unit, or all that there are, ``samples/s or tokens/s``."""
    return " or ".join(dict.fromkeys(units))
