"""How long a trial's devices need for a step, and the share of it in which they wait for the host.

From the raw times of its ranks (:mod:`bench.rank.device_busy`). Of a block of queued steps with the exchange, the rank
that was released last waited for no other: its time, the shortest, is that of all. An ordinary block ends on all ranks
together, so that there the longest counts. Of blocks without the exchange each rank has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from bench.core.records import DEVICE_BUSY, RankRecord, Reading
from bench.core.step_measures import QueuedSteps
from reports.analysis import changes
from reports.analysis.conditions import missing_reason

BUSY, BUSY_SHARE, HOST_BOUND_SHARE = "device_busy", "device_busy_share", "host_bound_share"
"""The readings: the seconds that the device needs for a step, their share of a step, and the rest of it."""

MAX_NOISE = 0.1
"""By how much of a step a device may seem to need longer for queued steps than for others."""


class DeviceTime(NamedTuple):
    """What the devices of a trial do in a step."""

    busy_s: float
    """How long a step would take if no device waited for its host."""
    host_bound_share: float
    """The share of a step in which the device waits for the host; noise can make it negative."""
    in_compute: float
    """That share, of waits in the ranks' own work alone: the exchange is left out where it can be."""


def device_time(ranks: Sequence[RankRecord], step_s: float) -> DeviceTime | None:
    """What the devices of a trial do in a step; ``None`` where it was not measured, or was disturbed.

    Args:
        ranks: The records of all ranks.
        step_s: How long a step takes in the window, in seconds.
    """
    found = _measured_time(ranks, step_s)
    return None if found is None or found.host_bound_share < -MAX_NOISE else found


def _measured_time(ranks: Sequence[RankRecord], step_s: float) -> DeviceTime | None:
    whole, alone = _of_all(ranks, exchanged=True), _of_all(ranks, exchanged=False)
    own_share = None
    if alone:
        waits_s = [
            median(stepped - queued for queued, stepped in zip(each.queued_s, each.stepped_s, strict=True))
            for each in alone
        ]
        own_share = fmean(waits_s) / step_s
    if whole:
        queued = [min(times) for times in zip(*(each.queued_s for each in whole), strict=True)]
        stepped = [max(times) for times in zip(*(each.stepped_s for each in whole), strict=True)]
        share = median(1 - busy / step for busy, step in zip(queued, stepped, strict=True))
        return DeviceTime(step_s * (1 - share), share, share if own_share is None else own_share)
    if own_share is None:
        return None
    return DeviceTime(step_s * (1 - own_share), own_share, own_share)


def _of_all(ranks: Sequence[RankRecord], *, exchanged: bool) -> list[QueuedSteps]:
    """The queued steps of one kind on all ranks; empty where a rank has none, or other blocks than the others."""
    by_rank = [next((each for each in rank.queued_steps if each.exchanged == exchanged), None) for rank in ranks]
    found = [each for each in by_rank if each is not None]
    same_blocks = len({(each.steps, len(each.queued_s)) for each in found}) == 1
    return found if same_blocks and len(found) == len(ranks) else []


def device_readings(ranks: Sequence[RankRecord], step_s: float) -> tuple[Reading, ...]:
    """The readings of a trial; none where they were not asked for, as on CPUs."""
    found, reason = device_time(ranks, step_s), unknown_reason(ranks, step_s)
    if found is None and reason is None:
        return ()
    values = (found.busy_s, 1 - found.host_bound_share, found.host_bound_share) if found else (None, None, None)
    return tuple(
        Reading(name=name, value=value, unit=unit, reason=None if found else reason)
        for name, value, unit in zip((BUSY, BUSY_SHARE, HOST_BOUND_SHARE), values, ("s", "1", "1"), strict=True)
    )


def unknown_reason(ranks: Sequence[RankRecord], step_s: float) -> str | None:
    """Why the device time of a step is unknown where it was to be measured."""
    measured = _measured_time(ranks, step_s)
    if measured is not None and measured.host_bound_share < -MAX_NOISE:
        return (
            f"disturbed: queued steps took {changes.factor(1 - measured.host_bound_share)} as long as those beside them"
        )
    impossible = next((rank.queued_steps_reason for rank in ranks if rank.queued_steps_reason), None)
    return impossible or missing_reason(ranks, DEVICE_BUSY)
