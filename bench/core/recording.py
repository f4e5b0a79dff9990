"""A recording of a node's sampler, and its cut to a measured window.

A recording is a file of JSON lines: one :class:`~bench.core.telemetry.Header`, then
:class:`~bench.core.telemetry.Tick` and :class:`~bench.core.telemetry.ProcessCheck` lines in the order of time. An
incomplete line, as a killed sampler leaves it, is ignored.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from pydantic import ValidationError

from bench.core.telemetry import (
    FORMAT,
    GpuProcess,
    Header,
    NodeTelemetry,
    ProcessCheck,
    Sample,
    Series,
    Tick,
    known_number,
)


class Recording(NamedTuple):
    """A complete recording."""

    header: Header
    ticks: tuple[Tick, ...]
    checks: tuple[ProcessCheck, ...] = ()


def read_recording(lines: Iterable[str]) -> Recording:
    """Parse the lines of a recording; incomplete lines after the header are ignored.

    Raises:
        ValueError: If the first line is not a header of a known format.
    """
    rest = iter(lines)
    try:
        header = Header.model_validate_json(next(rest, ""))
    except ValidationError:
        raise ValueError("not a telemetry recording: its first line is no header") from None
    if not 1 <= header.format <= FORMAT:
        raise ValueError(f"a telemetry recording of format {header.format}; this one reads 1 to {FORMAT}")
    ticks, checks = [], []
    for line in rest:
        try:
            if '"checked_at_s"' in line:
                checks.append(ProcessCheck.model_validate_json(line))
            else:
                ticks.append(Tick.model_validate_json(line))
        except ValidationError:
            continue
    return Recording(header, tuple(ticks), tuple(checks))


def longest_gap_s(recording: Recording, began_s: float, ended_s: float) -> float:
    """The longest time without a sample that reaches into the window from ``began_s`` to ``ended_s``, in seconds."""
    before = max((tick.at_s for tick in recording.ticks if tick.at_s < began_s), default=began_s)
    after = min((tick.at_s for tick in recording.ticks if tick.at_s > ended_s), default=ended_s)
    inside = (tick.at_s for tick in recording.ticks if began_s <= tick.at_s <= ended_s)
    return max(later - earlier for earlier, later in pairwise((before, *inside, after)))


def latest_processes(checks: Iterable[ProcessCheck]) -> tuple[GpuProcess, ...]:
    """Each process once a device, as it was listed last; what was known of its owner before it ended stays (pure)."""
    latest: dict[tuple[str, int], GpuProcess] = {}
    for process in (process for check in checks for process in check.processes):
        before = latest.get((process.device, process.pid))
        if before is None or before.ours is None or process.ours is not None:
            latest[process.device, process.pid] = process
    return tuple(latest.values())


def cut_to_window(recording: Recording, began_s: float, ended_s: float, incomplete: str = "") -> NodeTelemetry:
    """The part of a recording that belongs to the window from ``began_s`` to ``ended_s``.

    Args:
        recording: The recording.
        began_s: By the node's clock.
        ended_s: By the node's clock.
        incomplete: See :attr:`NodeTelemetry.incomplete`.
    """
    samples_by_series: dict[tuple[str, str], list[Sample]] = {}
    for tick in recording.ticks:
        for sample in map(known_number, tick.readings):
            at_s = tick.at_s if sample.at_s is None else sample.at_s
            samples_by_series.setdefault((sample.device, sample.name), []).append(sample._replace(at_s=at_s))
    problems = [*recording.header.problems, *(problem for check in recording.checks for problem in check.problems)]
    return NodeTelemetry(
        host=recording.header.host,
        source=recording.header.source,
        interval_s=recording.header.interval_s,
        began_s=began_s,
        ended_s=ended_s,
        devices=recording.header.devices,
        series=tuple(_cut_series(samples, began_s, ended_s) for samples in samples_by_series.values()),
        processes=latest_processes(recording.checks),
        problems=tuple(dict.fromkeys(problems)),
        incomplete=incomplete,
        node=recording.header.node,
        boot_id=recording.header.boot_id,
        update_timings=recording.header.update_timings,
    )


def _cut_series(samples: Sequence[Sample], began_s: float, ended_s: float) -> Series:
    """The samples of one quantity of one device inside the window, and the nearest one on either side."""
    in_order = sorted(samples, key=_time_of)
    first = bisect_left(in_order, began_s, key=_time_of)
    last = bisect_right(in_order, ended_s, key=_time_of)
    kept = in_order[max(0, first - 1) : last + 1]
    return Series(
        device=samples[0].device,
        name=samples[0].name,
        times_s=tuple(map(_time_of, kept)),
        values=tuple(sample.value for sample in kept),
        reason=next((sample.reason for sample in reversed(kept) if sample.reason), None),
    )


def _time_of(sample: Sample) -> float:
    return 0.0 if sample.at_s is None else sample.at_s
