"""The peak of a CPU is measured once for the trials of a command that have as many ranks.

A peak is a property of the device and of how many ranks use it at once, and of no backend or workload. To measure it
takes 0.3 to 0.5 s, about as long as all else around the steps of a trial. The first trial of each kind measures it;
later ones take what each of their ranks has found there, unless a step was faster than that: then the first measurement
was disturbed, and they measure again.

What is kept lies in the command's temporary folder, and ends with it: on another day a machine may be another one. On a
GPU, whose clock follows its temperature, each case measures its own.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from bench.core.case import Case
from bench.core.frozen_model import write_model
from bench.core.step_measures import DevicePeak, StepWork
from bench.host.regular_files import read_regular
from bench.plugins.backend import Session
from bench.rank.peak import measure_peak

MAX_FILE_BYTES = 2**16
KEPT = "; measured in an earlier trial of the command with as many ranks"
OF_THE_DEVICE = ("ranks", "ranks_per_node", "threads", "affinity", "site", "env", "fault")
"""The fields of a case that the peak of its ranks' devices depends on."""


def device_peak(
    case: Case, session: Session, dtype: str, counted: StepWork | None, step_s: float, folder: Path | None
) -> DevicePeak | None:
    """The peak rates of this rank's device: those that are kept where every rank has some, else measured ones.

    Args:
        case: The case.
        session: The group of ranks; all of them call this.
        dtype: The type to multiply in.
        counted: The work of a step on this rank.
        step_s: How long a step takes, in seconds.
        folder: Where peaks are kept; ``None``: nowhere.

    Returns:
        ``None`` where the device of a rank has no memory for the operands.
    """
    if session.device != "cpu":
        return measure_peak(session, dtype)
    file = None if folder is None else folder / f"peak-{session.rank}-{_key(case, dtype)}.json"
    kept = None if file is None else _read(file)
    if kept is not None and exceeds(counted, step_s, kept):
        kept = None
    # All ranks measure where one of them has to.
    one_measures = session.largest(float(kept is None)) > 0
    if kept is not None and not one_measures:
        return kept.model_copy(update={"how": f"{kept.how}{KEPT}"})
    peak = measure_peak(session, dtype)
    if file is not None and peak is not None:
        with suppress(OSError):
            write_model(file.parent, file.name, peak)
    return peak


def exceeds(counted: StepWork | None, step_s: float, peak: DevicePeak) -> bool:
    """Whether a step was faster than a peak allows: the peak was disturbed when it was measured (pure)."""
    flops = 0.0 if counted is None else counted.executed_flops or counted.flops
    return flops > peak.flop_s * step_s


def _key(case: Case, dtype: str) -> str:
    fields = case.model_dump(mode="json", include=set(OF_THE_DEVICE))
    return hashlib.sha256(json.dumps([fields, dtype], sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> DevicePeak | None:
    with suppress(OSError, ValueError):
        return DevicePeak.model_validate_json(read_regular(file, MAX_FILE_BYTES))
    return None
