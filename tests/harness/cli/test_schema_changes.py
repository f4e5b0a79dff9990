"""A schema that changed gets another version: a minor one where readers of before still read it, else a major one."""

from __future__ import annotations

import pytest

from harness.cli.schema_changes import ChangedMeaning, digest_of, next_versions
from reports.formats.documents import last_version

BEFORE = {
    "$id": "urn:scaling-harness:x:1.0",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "time": {"type": "number", "unit": "s"},
        "cells": {"type": "array", "items": {"$ref": "#/$defs/Cell"}},
        "by_name": {"type": "object", "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Cell"}, {"type": "null"}]}},
    },
    "required": ["name", "time", "cells"],
    "$defs": {
        "Cell": {
            "type": "object",
            "properties": {"ranks": {"type": "integer"}, "parts": {"items": {"$ref": "#/$defs/Cell"}}},
            "required": ["ranks"],
        }
    },
}
TEXT = {"type": "string"}
DIGESTS = {"1.0": digest_of(BEFORE)}


def changed(**changes):
    return {**BEFORE, "properties": {**BEFORE["properties"], **changes}}


def cell(**changes):
    return {**BEFORE, "$defs": {"Cell": {**BEFORE["$defs"]["Cell"], **changes}}}


def test_the_same_schema_keeps_its_version():
    assert next_versions(DIGESTS, 1, BEFORE, {**BEFORE, "$id": "urn:scaling-harness:x:1.7"}) == DIGESTS


@pytest.mark.parametrize(
    "schema",
    [
        changed(more={"type": "string"}),
        changed(name={"type": ["string", "null"]}),
        {**BEFORE, "required": [*BEFORE["required"], "by_name"]},
        cell(properties={**BEFORE["$defs"]["Cell"]["properties"], "more": {"type": "number"}}),
    ],
    ids=["a field", "may be null", "always there", "a field of a part"],
)
def test_what_readers_of_before_can_read_is_a_minor_version(schema):
    versions = next_versions(DIGESTS, 1, BEFORE, schema)
    assert versions == {**DIGESTS, "1.1": digest_of(schema)}
    assert versions["1.1"] != versions["1.0"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (changed(time={"type": "number", "unit": "ms"}), r"\$\.time had the unit s, and has ms"),
        (changed(time={"type": "string", "unit": "s"}), r"\$\.time is no longer of the type number"),
        ({**BEFORE, "required": ["name"]}, r"\$ no longer always has cells, time"),
        ({**BEFORE, "properties": {}}, r"\$\.name is missing"),
        (cell(properties={}), r"\$\.cells\[\]\.ranks is missing"),
        (
            changed(cells={"type": "array", "items": {"type": "string"}}),
            r"\$\.cells\[\] is no longer of the type object",
        ),
        (
            changed(by_name={**BEFORE["properties"]["by_name"], "additionalProperties": {"type": "string"}}),
            r"by_name\.\*",
        ),
    ],
)
def test_what_they_cannot_read_needs_a_major_one(schema, message):
    with pytest.raises(ChangedMeaning, match=message):
        next_versions(DIGESTS, 1, BEFORE, schema)
    assert next_versions(DIGESTS, 2, None, schema) == {**DIGESTS, "2.0": digest_of(schema)}


def test_versions_are_ordered_by_their_numbers():
    digests = {f"1.{minor}": str(minor) for minor in range(11)}
    assert last_version(digests) == "1.10"
    assert list(next_versions(digests, 1, BEFORE, changed(more={"type": "string"})))[-1] == "1.11"
