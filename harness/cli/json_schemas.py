"""JSON Schemas of the documents that commands print with ``--json``, of ``verdict.json`` and of exported rows.

    python -m harness.cli.json_schemas

writes them to ``reports/formats/schemas``.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from harness.cli import document_types
from harness.cli.sweep_document_types import SweepDocument
from harness.defects import install_hooks
from harness.store.ledger import Acceptance
from reports.formats.documents import FOLDER, VERSIONS, schema_file, schema_name
from reports.formats.trial_rows import TrialRow

TYPES: dict[str, Any] = {
    "sweep": SweepDocument,
    "plan": document_types.PlanDocument,
    "comparison": document_types.ComparisonDocument,
    "index": document_types.IndexDocument,
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
    if document == "trial-row":
        return _head(document) | _row_schema()
    generated = TypeAdapter(TYPES[document]).json_schema(mode="serialization", schema_generator=_Generator)
    definitions = {name: _simplify(found) for name, found in sorted(generated.pop("$defs", {}).items())}
    schema = _simplify(generated)
    if "$ref" in schema:
        schema = definitions.pop(schema["$ref"].rpartition("/")[2])
    schema["properties"] = {"schema": {"const": schema_name(document)}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    found: dict[str, Any] = schema
    return _head(document) | found | ({"$defs": definitions} if definitions else {})


def main() -> None:
    """Write the file of every schema."""
    FOLDER.mkdir(exist_ok=True)
    for document in VERSIONS:
        schema_file(document).write_text(schema_text(document))


def schema_text(document: str) -> str:
    """The content of a schema's file."""
    return json.dumps(schema_of(document), indent=2) + "\n"


def _head(document: str) -> dict[str, Any]:
    return {"$schema": DIALECT, "title": schema_name(document)}


def _row_schema() -> dict[str, Any]:
    """Rows hold plain values: options as JSON text, lists joined by semicolons."""
    generated = TypeAdapter(TrialRow).json_schema(mode="serialization", schema_generator=_Generator)
    properties = {name: _simplify(found) for name, found in generated["properties"].items()}
    text = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            name: text if found.get("type") in ("object", "array") else found for name, found in properties.items()
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
