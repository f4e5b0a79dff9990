"""How the version of a JSON Schema follows its changes: decided by comparing it with the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reports.formats.documents import last_version

IDENTITY = "$id"
"""It holds the version, and is no part of what is compared."""


class ChangedMeaning(ValueError):
    """A reader of the documents of before can't read those of now; the message names the place."""


def next_versions(
    digests: Mapping[str, str], major: int, before: Mapping[str, Any] | None, schema: Mapping[str, Any]
) -> dict[str, str]:
    """The digests of all versions of a schema, with a new minor version where it has changed (pure).

    Args:
        digests: Of the versions of before, by version.
        major: Its major version now.
        before: The last schema of that major version; ``None``: there is none.
        schema: The schema of now.

    Raises:
        ChangedMeaning: It needs a new major version.
    """
    digest = digest_of(schema)
    of_major = {version: found for version, found in digests.items() if version.partition(".")[0] == str(major)}
    if not of_major:
        return {**digests, f"{major}.0": digest}
    newest = last_version(of_major)
    if of_major[newest] == digest:
        return dict(digests)
    if before is not None:
        _compare(before, schema, before, schema, "$", frozenset())
    return {**digests, f"{major}.{int(newest.partition('.')[2]) + 1}": digest}


def digest_of(schema: Mapping[str, Any]) -> str:
    """The digest of what a schema says."""
    said = {name: part for name, part in schema.items() if name != IDENTITY}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _compare(old: Any, new: Any, old_root: Any, new_root: Any, place: str, seen: frozenset[str]) -> None:
    """Raise :class:`ChangedMeaning` where something that old documents have is missing, or is something else."""
    if "$ref" in old:
        if old["$ref"] in seen:
            return
        seen |= {old["$ref"]}
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if (was := old.get("unit")) != (now := new.get("unit")):
        raise ChangedMeaning(f"{place} had the unit {was}, and has {now}")
    if missing := _types(old) - _types(new):
        raise ChangedMeaning(f"{place} is no longer of the type {', '.join(sorted(missing))}")
    if optional := set(old.get("required", ())) - set(new.get("required", ())):
        raise ChangedMeaning(f"{place} no longer always has {', '.join(sorted(optional))}")
    for name, part in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            raise ChangedMeaning(f"{place}.{name} is missing")
        _compare(part, new["properties"][name], old_root, new_root, f"{place}.{name}", seen)
    for keyword, shown in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(old.get(keyword), dict) and isinstance(new.get(keyword), dict):
            _compare(old[keyword], new[keyword], old_root, new_root, f"{place}{shown}", seen)


def _resolved(schema: Any, root: Any) -> Any:
    """What a reference means; of one that may be null, the other alternative."""
    alternatives = [part for part in schema.get("anyOf", ()) if part != {"type": "null"}]
    if len(alternatives) == 1:
        schema = alternatives[0]
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Any) -> set[str]:
    found = schema.get("type", ())
    return {found} if isinstance(found, str) else set(found)
