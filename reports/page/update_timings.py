"""The table of what sampled readings are made of: how often they change, and over what time they are means."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.telemetry import HOST
from bench.core.update_timing import UpdateTiming
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.telemetry import GPU_POWER, GPU_READINGS, HOST_POWER
from reports.page.elements import Table

ID_LENGTH = 12
"""Characters of a GPU's UUID that tell it from others."""
SOURCES = {"measured": "measured on it", "table": "not measured on it: as on an H200"}
HOST_SOURCE = "by Intel's documentation"
READING_NAMES = {spec.series: spec.name for spec in (HOST_POWER, *GPU_READINGS, GPU_POWER)}


def update_timings_table(cells: Sequence[Cell]) -> Table:
    """One row for each reading that is made alike on some devices, with these."""
    devices_by_row: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for timing in (timing for cell in cells for timing in cell.update_timings):
        if timing.name in READING_NAMES:
            devices_by_row.setdefault(_row(timing), {})[timing.device[:ID_LENGTH]] = None
    rows = tuple(
        (name, ", ".join(devices), update, mean, source)
        for (name, update, mean, source), devices in devices_by_row.items()
    )
    header = ("reading", "devices", "new value every", "mean over the last", "found")
    note = "A window that is shorter than a reading needs leaves it unknown, and says how long it has to be."
    return Table("What sampled readings are made of", header, rows, note)


def _row(timing: UpdateTiming) -> tuple[str, str, str, str]:
    mean = formatting.duration(timing.averages_over_s) if timing.averages_over_s else "–"
    source = HOST_SOURCE if timing.device == HOST else SOURCES[timing.source]
    title = formatting.reading_title(READING_NAMES[timing.name])
    return title, formatting.duration(timing.update_s), mean, source
