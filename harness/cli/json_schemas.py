"""JSON Schemas of the documents that commands print with ``--json``, of ``verdict.json`` and of exported rows.

    python -m harness.cli.json_schemas

writes them to ``reports/formats/schemas``, and the digests of new versions to ``reports/formats/schema_versions.json``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from bench.core.frozen_model import FrozenModel
from harness.cli import document_types
from harness.cli.schema_changes import ChangedMeaning, next_versions
from harness.cli.sweep_document_types import SweepDocument
from harness.defects import install_hooks
from harness.store.ledger import Acceptance
from reports.formats.answer_rows import AnswerRow
from reports.formats.cell_rows import CellRow
from reports.formats.columns import columns_of
from reports.formats.documents import FOLDER, VERSIONS, VERSIONS_FILE, last_version, schema_file, schema_name
from reports.formats.step_rows import StepRow
from reports.formats.sweep_rows import SweepRow
from reports.formats.trial_rows import TrialRow

TYPES: dict[str, Any] = {
    "sweep": SweepDocument,
    "plan": document_types.PlanDocument,
    "comparison": document_types.ComparisonDocument,
    "index": document_types.IndexDocument,
    "sweeps": document_types.SweepsDocument,
    "show": document_types.ShowDocument,
    "deletion": document_types.DeletionDocument,
    "labels": document_types.LabelsDocument,
    "verdict": document_types.VerdictDocument,
    "acceptance": Acceptance,
    "calibration": document_types.CalibrationDocument,
    "fit": document_types.FitDocument,
    "list": document_types.ListDocument,
    "config": document_types.ConfigDocument,
    "doctor": document_types.DoctorDocument,
    "new": document_types.NewDocument,
    "try": document_types.TryDocument,
    "merge": document_types.MergeDocument,
    "ingest": document_types.IngestDocument,
}
ROWS: dict[str, type[FrozenModel]] = {
    "trial-row": TrialRow,
    "cell-row": CellRow,
    "step-row": StepRow,
    "sweep-row": SweepRow,
    "answer-row": AnswerRow,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DROPPED = frozenset({"title", "description", "default", "additionalProperties"})
"""Keywords that are left out: a docstring changes no schema, and documents may have more fields than are described."""


class _Generator(GenerateJsonSchema):
    def field_is_required(self, field: Any, total: bool) -> bool:
        """Documents hold every field, also those that have a default, unless it is declared as not required."""
        if field["type"] == "typed-dict-field":
            return bool(field.get("required", total))
        return not field.get("serialization_exclude")


def schema_of(document: str) -> dict[str, Any]:
    """The JSON Schema of a document of :data:`reports.formats.documents.VERSIONS`."""
    if document in ROWS:
        return _head(document) | _row_schema(ROWS[document])
    generated = TypeAdapter(TYPES[document]).json_schema(mode="serialization", schema_generator=_Generator)
    definitions = {name: _simplify(found) for name, found in sorted(generated.pop("$defs", {}).items())}
    schema = _simplify(generated)
    if "$ref" in schema:
        schema = definitions.pop(schema["$ref"].rpartition("/")[2])
    version = {"type": "string", "pattern": rf"^{VERSIONS[document]}\.\d+$"}
    head = {"schema": {"const": schema_name(document)}, "schema_version": version}
    schema["properties"] = {**head, **schema["properties"]}
    schema["required"] = [*head, *schema["required"]]
    found: dict[str, Any] = schema
    return _head(document) | found | ({"$defs": definitions} if definitions else {})


def main() -> None:
    """Write the file of every schema. Ends with a message where one needs a new major version."""
    FOLDER.mkdir(exist_ok=True)
    known = json.loads(VERSIONS_FILE.read_text()) if VERSIONS_FILE.exists() else {}
    versions = {}
    for document, major in VERSIONS.items():
        file, schema = schema_file(document), schema_of(document)
        before = json.loads(file.read_text()) if file.exists() else None
        try:
            versions[document] = next_versions(known.get(document, {}), major, before, schema)
        except ChangedMeaning as problem:
            sys.exit(f"{document}: {problem}: raise its version in reports/formats/documents.py")
        file.write_text(schema_text(document, last_version(versions[document])))
    VERSIONS_FILE.write_text(json.dumps(versions, indent=2) + "\n")


def schema_text(document: str, version: str) -> str:
    """The content of a schema's file."""
    schema = schema_of(document)
    identity = {"$schema": schema["$schema"], "$id": f"urn:scaling-harness:{document}:{version}"}
    return json.dumps(identity | schema, indent=2) + "\n"


def _head(document: str) -> dict[str, Any]:
    return {"$schema": DIALECT, "title": schema_name(document)}


def _row_schema(row_type: type[FrozenModel]) -> dict[str, Any]:
    """Rows hold plain values: options as JSON text, lists joined by semicolons."""
    generated = TypeAdapter(row_type).json_schema(mode="serialization", schema_generator=_Generator)
    properties = {name: _simplify(found) for name, found in generated["properties"].items()}
    text = {"type": ["string", "null"]}
    units = {column.name: {"unit": column.unit} for column in columns_of(row_type) if column.unit}
    return {
        "type": "object",
        "properties": {
            name: (text if found.get("type") in ("object", "array") else found) | units.get(name, {})
            for name, found in properties.items()
        },
        "required": list(properties),
    }


def _simplify(schema: Any, *, names: bool = False) -> Any:
    """Without the :data:`DROPPED` keywords. ``names``: the keys are names of properties, not keywords."""
    if isinstance(schema, list):
        return [_simplify(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    alternatives = schema.get("anyOf", [])
    if alternatives and not names and all(list(found) == ["type"] for found in alternatives):
        return {"type": [found["type"] for found in alternatives]}
    return {
        key: _simplify(value, names=not names and key == "properties")
        for key, value in schema.items()
        if names or key not in DROPPED or (key == "additionalProperties" and isinstance(value, dict))
    }


if __name__ == "__main__":
    install_hooks()
    main()
