"""Reads logs of torchtitan: the time that a token takes on a device, of the slowest rank.

Its lines say ``step: 10  loss: 8.2  ...  tps: 4,155``, tokens per second of a device (``wps`` in older versions).
The format: https://github.com/pytorch/torchtitan, ``torchtitan/components/metrics.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.importers import FileRuns, Importer
from harness.importers.log_lines import LogPattern, read_log

PATTERN = LogPattern(
    "time of a token",
    re.compile(r"^.*\bstep:\s*(?P<step>\d+)\b.*\b(?:tps|wps):\s*(?P<per_s>[\d,.]+)"),
)


def read_torchtitan(path: Path, night: str | None = None) -> FileRuns:
    """Read the run in a log. ``night``: its label; default: the day of the file. Raises :class:`UsageError`."""
    return read_log(path, night, PATTERN)


IMPORTER = Importer(
    "torchtitan's logs",
    read_torchtitan,
    signature=re.compile(rb"step:\s*\d+\s+(?:\x1b\[[0-9;]*m)?loss:.*(?:tps|wps):"),
)
