"""The JSON documents of this project: their names, versions and schemas.

Every document has a field ``schema``, ``scaling-harness/<name>/<major version>``, and a field ``schema_version``,
``<major>.<minor>``. A new field raises the minor version; a field that is renamed, removed or changes its meaning
raises the major one. The schemas are files in ``schemas/``, written by ``python -m harness.cli.json_schemas``, which
raises minor versions by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("schemas")
VERSIONS_FILE = Path(__file__).with_name("schema_versions.json")
"""The digest of every version of each schema, by document and version: the last one is that of the file."""
VERSIONS = {
    "sweep": 1,
    "plan": 1,
    "comparison": 1,
    "index": 1,
    "sweeps": 1,
    "show": 1,
    "deletion": 1,
    "labels": 1,
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
    "cell-row": 1,
    "step-row": 1,
    "sweep-row": 1,
    "answer-row": 1,
}
"""Major versions. ``trial-row`` is a row of ``export``, and all that end with ``row`` are rows of data frames: rows
have no field ``schema``."""


def schema_name(document: str) -> str:
    """``scaling-harness/sweep/1``"""
    return f"scaling-harness/{document}/{VERSIONS[document]}"


def schema_file(document: str) -> Path:
    """The file of a document's JSON Schema."""
    return FOLDER / f"{document}-{VERSIONS[document]}.json"


def schema_version(document: str) -> str:
    """``1.3``"""
    return last_version(schema_versions()[document])


def last_version(digests: Mapping[str, str]) -> str:
    """The newest of some versions (pure)."""
    return max(digests, key=lambda version: [int(part) for part in version.split(".")])


@cache
def schema_versions() -> Mapping[str, Mapping[str, str]]:
    """The content of :data:`VERSIONS_FILE`."""
    found: dict[str, dict[str, str]] = json.loads(VERSIONS_FILE.read_text())
    return found


def versioned(document: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the name of its schema in front."""
    return {"schema": schema_name(document), "schema_version": schema_version(document), **fields}
