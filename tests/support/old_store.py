"""A small store that commit 9e9153b wrote, and the numbers that this commit reported of it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.paths import GOLDEN

SWEEP = "20261127-043948-3275"
NUMBERS = json.loads((GOLDEN / "store-2026-11.json").read_text())


def restore(path: Path) -> str:
    """Make the store; returns its path as ``--store`` takes it.

    It holds six nights of one cell, a seventh of four cells, pairs, verdicts, an acceptance and an ingested run.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress((GOLDEN / "store-2026-11.sql.gz").read_bytes()).decode())
    return str(path)
