"""Queries to NVML, through the package ``nvidia-ml-py``: every failure becomes a short reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.host.logs import describe_exception

# By NVML's error codes: its own texts ("RM has detected an NVML/RM version mismatch.") name no remedy.
REASONS: Mapping[int, str] = {
    1: "NVML is not initialised",
    2: "not known to this driver",
    3: "not supported by this device",
    4: "no permission",
    6: "not found",
    9: "the NVIDIA driver is not loaded",
    10: "no answer in time",
    12: "libnvidia-ml.so.1 can't be loaded",
    13: "the driver's library lacks this call",
    15: "GPU is lost",
    16: "the GPU needs a reset",
    17: "the operating system refused",
    18: "the driver and its library are of different versions; reload the driver or restart the machine",
    20: "out of memory",
    21: "no data",
    25: "the driver's library lacks this version of the call",
    28: "no such GPU",
    999: "the driver met an unknown error",
}
DEVICE_LOST = frozenset(REASONS[code] for code in (15, 16))
"""Reasons after which a device answers no query any more."""
PACKAGE_TOO_OLD = "the package nvidia-ml-py is too old for this: update it"
PERMANENT = frozenset((PACKAGE_TOO_OLD, *(REASONS[code] for code in (2, 3, 4, 13, 25))))
"""Reasons for which a query is not repeated: it would never be answered."""


class QueryResult(NamedTuple):
    """The value of a query, or the reason why there is none."""

    value: Any
    reason: str | None = None


def query(function: Callable[..., Any], *arguments: Any) -> QueryResult:
    """Call a function of NVML; an exception becomes a reason."""
    try:
        return QueryResult(function(*arguments))
    except ImportError:
        return QueryResult(None, "the package nvidia-ml-py is not installed")
    except AttributeError:
        return QueryResult(None, PACKAGE_TOO_OLD)
    except Exception as error:  # a library of another version than the package expects may fail in any way
        code = getattr(error, "value", None)
        if not isinstance(code, int):
            return QueryResult(None, describe_exception(error))
        return QueryResult(None, REASONS.get(code, f"NVML error {code}"))
