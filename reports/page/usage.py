"""The tables of usage: what ranks, hosts and GPUs used during the measured window. Energy has its own section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.cell_details import ReadingCell
from reports.analysis.cells import Cell
from reports.analysis.telemetry import ENERGY_READINGS
from reports.analysis.telemetry_window import MIN_SAMPLES
from reports.page.elements import Table

GPU_READINGS = ("gpu_", "device_", "host_bound")
"""The beginnings of the names of readings about GPUs."""
WINDOW_NOTE = "During the measured window, as means over trials."
HOST_NOTE = f"{WINDOW_NOTE} Host: the cores that this job may use. A window needs {MIN_SAMPLES} samples."
GPU_NOTE = (
    f"{WINDOW_NOTE} Of several GPUs: power and traffic of all, peaks and time at the power limit of the highest, else "
    "the mean. GPU power capped: the share of the window at the power limit, which is usual at full load. GPU time "
    "of a step: what it needs where launches wait in its queue, in seconds and as a share of the step; launch-bound: "
    "the rest of the step, in which the GPU waits for launches by the host."
)

ReadingsByName = Mapping[str, ReadingCell]


def usage_tables(cells: Sequence[Cell]) -> tuple[Table, ...]:
    """The usage of ranks and hosts, and that of GPUs: one row for each cell that has any such reading."""
    sampled = [cell for cell in cells if cell.usage]
    with_gpus = [cell for cell in sampled if any(map(is_of_gpus, cell.usage))]
    tables = (
        _table("Usage of ranks and hosts", sampled, lambda reading: not is_of_gpus(reading), HOST_NOTE),
        _table("Usage of GPUs", with_gpus, is_of_gpus, GPU_NOTE),
    )
    return tuple(table for table in tables if table.rows)


def is_of_gpus(reading: ReadingCell) -> bool:
    """Whether a reading is about GPUs, rather than about ranks and hosts."""
    return reading.name.startswith(GPU_READINGS)


def _table(caption: str, cells: Sequence[Cell], belongs: Callable[[ReadingCell], bool], note: str) -> Table:
    """One column for each reading that any cell knows; the note has reasons for the others."""
    by_cell = [
        {reading.name: reading for reading in cell.usage if belongs(reading) and reading.name not in ENERGY_READINGS}
        for cell in cells
    ]
    known = dict.fromkeys(name for readings in by_cell for name, reading in readings.items() if reading.estimate)
    rows = tuple(
        (cell.labels.title, *(_shown(readings.get(name)) for name in known), _coverage(cell))
        for cell, readings in zip(cells, by_cell, strict=True)
    )
    header = ("cell", *map(formatting.reading_title, known), "samples, coverage (lowest)")
    return Table(caption, header, rows, f"{note}{_unknown_text(by_cell)}")


def _shown(reading: ReadingCell | None) -> str:
    return formatting.reading(reading.estimate if reading else None)


def _coverage(cell: Cell) -> str:
    return f"{cell.coverage.samples}, {formatting.share(cell.coverage.share)}" if cell.coverage else "none"


def _unknown_text(by_cell: Sequence[ReadingsByName]) -> str:
    """Which readings are unknown and why, as a further sentence; empty where all are known."""
    names_by_reason: dict[str, dict[str, None]] = {}
    for readings in by_cell:
        for name, reading in readings.items():
            if reading.estimate is None:
                names_by_reason.setdefault(reading.reason or "unknown", {})[name] = None
    reasons = "; ".join(
        f"{', '.join(map(formatting.reading_title, names))}: {why}" for why, names in names_by_reason.items()
    )
    return f" Unknown — {reasons}." if reasons else ""
