"""Reads logs of Megatron-LM and of what derives from it: the time of an iteration.

Its lines say ``iteration 10/ 1000 | consumed samples: 160 | elapsed time per iteration (ms): 1147.6 | ... | global
batch size: 16 |``, each a mean over the iterations since the last one.
The format: https://github.com/NVIDIA/Megatron-LM, ``megatron/training/training.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.importers import FileRuns, Importer
from harness.importers.log_lines import LogPattern, read_log

PATTERN = LogPattern(
    "iteration",
    re.compile(
        r"\biteration\s+(?P<step>\d+)\s*/.*?\belapsed time per iteration \(ms\):\s*(?P<ms>[\d.]+)"
        r"(?:.*?\b(?P<name>global batch size:\s*\d+))?"
    ),
)


def read_megatron(path: Path, night: str | None = None) -> FileRuns:
    """Read the run in a log. ``night``: its label; default: the day of the file. Raises :class:`UsageError`."""
    return read_log(path, night, PATTERN)


IMPORTER = Importer(
    "logs of Megatron-LM",
    read_megatron,
    signature=re.compile(rb"\biteration\s+\d+\s*/[^\n]*elapsed time per iteration \(ms\):"),
)
