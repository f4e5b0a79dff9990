"""What a nightly check needs of a trial, as plain numbers: kept beside it, so that no check reads raw steps again."""

from __future__ import annotations

import math
from statistics import median

from bench.core.case import Case
from bench.core.records import RankRecord, Trial
from reports.analysis.efficiency import split_step
from reports.analysis.telemetry import usage_of
from reports.analysis.throughput import slowest_steps, throughput_of

COMPARED_SETTINGS = {"steps", "window_s", "precision", "warmup", "verify_steps", "affinity", "telemetry"}


def measures_of(trial: Trial) -> dict[str, float]:
    """The numbers of a trial that went well, by name; none of one that did not, or carries a fault on purpose.

    ``step_s``: the median over the window of each step's slowest rank. ``rate``: units a second of all ranks.
    ``memory_bytes``: resident at most, of the rank that held the most; ``gpu_memory_bytes`` likewise of the GPUs.
    ``joules_per_sample``: of the devices that computed. ``exposed_s``: communication of a step that compute could not
    hide; it may be negative. What is unknown or not finite is left out.
    """
    if trial.outcome != "ok" or trial.case.fault is not None:
        return {}
    window_s = max((sum(rank.step_s) for rank in trial.ranks), default=0.0)
    if not 0 < window_s < math.inf:  # nor where it is no number
        return {}
    usage = {reading.name: reading.value for reading in usage_of(trial.ranks, trial.telemetry)}
    found = {
        "step_s": median(slowest_steps(trial.ranks)),
        "rate": throughput_of(trial.ranks),
        "memory_bytes": _memory(trial.ranks),
        "gpu_memory_bytes": usage.get("gpu_memory_peak"),
        "joules_per_sample": usage.get("cpu_energy" if trial.case.device == "cpu" else "gpu_energy"),
        "exposed_s": _exposed(trial.ranks),
    }
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def settings_of(case: Case) -> dict[str, str]:
    """What must match beside the key before two nights' numbers are of the same thing, by name."""
    settings = {name: str(value) for name, value in case.model_dump(include=COMPARED_SETTINGS).items()}
    return settings | {"data": f"{case.data.name} {case.data.digest}" if case.data else "none"}


def _memory(ranks: tuple[RankRecord, ...]) -> int | None:
    """Unknown where it is for one rank, which may be the one that held the most."""
    peaks = [rank.memory_peak_bytes for rank in ranks]
    known = [peak for peak in peaks if peak is not None]
    return max(known) if len(known) == len(peaks) else None


def _exposed(ranks: tuple[RankRecord, ...]) -> float | None:
    """One rank has nobody to communicate with."""
    found = split_step(ranks) if len(ranks) > 1 else None
    return None if found is None else found.exposed_s
