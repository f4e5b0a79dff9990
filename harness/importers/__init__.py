"""Other tools' files as series. An importer for ``ingest`` is one file that defines ``IMPORTER``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plugins.registry import PluginKind

if TYPE_CHECKING:
    from harness.store.ledger import IngestedRun

NOT_PLUGINS = frozenset(
    {
        "csv_labels",
        "csv_rows",
        "csv_table",
        "detection",
        "documents",
        "ingest",
        "limits",
        "log_lines",
        "pattern_time",
        "night_csv",
        "night_order",
        "night_places",
        "throughput_columns",
        "throughput_csv",
    }
)
"""Modules here that read files for other commands, or that importers share."""
NAME_SEPARATOR = "-"
"""An importer's name has a hyphen for each underscore of its file's."""


@dataclass(frozen=True)
class FileRuns:
    """The runs in a file, and ``notes`` on what of it was left out, or stands for something else."""

    runs: Sequence[IngestedRun]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Importer:
    """Reads a tool's files into runs of benchmarks.

    Args:
        summary: Whose files it reads.
        read: ``read(path, night)`` returns the runs in a file, or these with notes. ``night`` is the label of their
            night; ``None`` stands for the day of the file (UTC). Durations are seconds; a rate becomes the seconds that
            one of its units takes. Raises :class:`harness.errors.UsageError` with the file and the remedy.
        signature: What the beginning of a file of the tool matches, and that of no other tool's; ``None``: its files
            are read where the importer is named only.
    """

    summary: str
    read: Callable[[Path, str | None], Sequence[IngestedRun] | FileRuns]
    signature: re.Pattern[bytes] | None = None


IMPORTERS: PluginKind[Importer] = PluginKind("importer", Importer, __name__, ("summary", "read"))
