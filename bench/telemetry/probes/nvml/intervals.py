"""How often the values of NVML's readings change, found on each device at first use.

NVML is called as fast as it answers, for half a second. What was found is kept in the user's cache folder by the GPU's
UUID and the version of the driver.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.core.bounds import StepDuration
from bench.core.frozen_model import FrozenModel
from bench.host.installation import cache_folder
from bench.host.regular_files import read_regular

MEASURED = ("power_w", "energy_j", "utilization")
"""What can be measured by calls alone: the values of GPM depend on when they are asked for."""
MEASURING_S = 0.5
PAUSE_S = 0.0005
"""Between two rounds of calls, in seconds."""
MIN_INTERVALS = 2
MAX_POLL_SHARE = 0.25
"""The longest time between two calls that still shows an interval, as a share of it."""
MAX_FILE_BYTES = 4096


def measure_intervals(
    queries: Mapping[tuple[str, str], Callable[[], float | None]],
    interrupted: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, dict[str, float]] | None:
    """How often the values of devices change, in seconds, by device and quantity; those that did not are missing.

    Args:
        queries: Return the present value, by device and quantity; ``None``: it can't be read.
        interrupted: Whether to stop at once, because ranks need the machine.
        clock: The time in seconds.
        pause: Lets so many seconds pass.

    Returns:
        ``None`` if it was interrupted.
    """
    calls: dict[tuple[str, str], list[tuple[float, float | None]]] = {key: [] for key in queries}
    end_s = clock() + MEASURING_S
    while clock() < end_s:
        if interrupted():
            return None
        for key, call in queries.items():
            began_s = clock()
            value = call()
            calls[key].append(((began_s + clock()) / 2, value))
        pause(PAUSE_S)
    found: dict[str, dict[str, float]] = {device: {} for device, _ in queries}
    for (device, name), polled in calls.items():
        if (interval_s := usual_interval_s(polled)) is not None:
            found[device][name] = interval_s
    return found


def usual_interval_s(polled: Sequence[tuple[float, float | None]]) -> float | None:
    """The median time between changes of a value (pure); ``None`` where too few are known.

    Args:
        polled: The moments of calls in seconds, and what they returned.
    """
    intervals: list[float] = []
    last_change_s, longest_s = None, 0.0
    for (early_s, before), (late_s, after) in pairwise(polled):
        # Where calls were far apart, as on a busy machine, a change is not known well, or was not seen at all.
        longest_s = max(longest_s, late_s - early_s)
        if before is None or after is None or before == after:
            continue
        change_s = (early_s + late_s) / 2
        if last_change_s is not None and longest_s <= MAX_POLL_SHARE * (change_s - last_change_s):
            intervals.append(change_s - last_change_s)
        last_change_s, longest_s = change_s, late_s - early_s
    return round(median(intervals), 3) if len(intervals) >= MIN_INTERVALS else None


class KnownIntervals(FrozenModel):
    """The intervals of one GPU under one driver, as they are kept."""

    gpu: str
    driver: str
    update_s: dict[str, StepDuration]


def read_intervals(gpu: str, driver: str) -> dict[str, float] | None:
    """The intervals that were measured before; ``None`` where there are none, or their file is damaged: it holds what
    can't have been measured."""
    try:
        known = KnownIntervals.model_validate_json(read_regular(_file_of(gpu, driver), MAX_FILE_BYTES))
    except (OSError, ValueError):  # pydantic's errors are among them
        return None
    possible = all(name in MEASURED and PAUSE_S < time_s <= MEASURING_S for name, time_s in known.update_s.items())
    return {**known.update_s} if possible and (known.gpu, known.driver) == (gpu, driver) else None


def keep_intervals(gpu: str, driver: str, intervals: Mapping[str, float]) -> None:
    """Keep measured intervals; where the folder can't be written they are measured again the next time."""
    path = _file_of(gpu, driver)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    known = KnownIntervals(gpu=gpu, driver=driver, update_s={**intervals})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(known.model_dump_json())
        partial.replace(path)
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def _file_of(gpu: str, driver: str) -> Path:
    digest = hashlib.sha256(f"{gpu}\n{driver}".encode()).hexdigest()
    return cache_folder("telemetry") / f"{digest[:24]}.json"
