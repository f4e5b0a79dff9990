"""The JSON documents of this project: their names, versions and schemas.

Every document has a field ``schema``, ``scaling-harness/<name>/<version>``. A new field leaves the version as it is; a
field that is renamed, removed or changes its meaning makes a new one. The schemas are files in ``schemas/``, written by
``python -m harness.cli.json_schemas``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("schemas")
VERSIONS = {
    "sweep": 1,
    "plan": 1,
    "comparison": 1,
    "index": 1,
    "verdict": 1,
    "acceptance": 1,
    "calibration": 1,
    "fit": 1,
    "list": 1,
    "config": 1,
    "doctor": 1,
    "new": 1,
    "try": 1,
    "merge": 1,
    "ingest": 1,
    "trial-row": 1,
}
"""``trial-row`` is a row of ``export``, which has no field ``schema``."""


def schema_name(document: str) -> str:
    """``scaling-harness/sweep/1``"""
    return f"scaling-harness/{document}/{VERSIONS[document]}"


def schema_file(document: str) -> Path:
    """The file of a document's JSON Schema."""
    return FOLDER / f"{document}-{VERSIONS[document]}.json"


def versioned(document: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the name of its schema in front."""
    return {"schema": schema_name(document), **fields}
