"""The base class of every value that crosses a process or file boundary."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError

HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


class FrozenModel(BaseModel):
    """An immutable pydantic model; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def model_dump_json(self, **settings: Any) -> str:
        """As pydantic, with its settings. Text that is no valid Unicode, such as the name of a file in another
        encoding, loses no record: what can't be encoded is replaced."""
        try:
            return super().model_dump_json(**settings)
        except PydanticSerializationError:
            changed = _with_valid_text(self)
            if changed is self:
                raise
            text: str = changed.model_dump_json(**settings)
            return text


def _with_valid_text(value: Any) -> Any:
    """The value itself where all of its text can be encoded."""
    if isinstance(value, str):
        return value if value.isprintable() else HALF_OF_A_PAIR.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, BaseModel):
        before = {name: getattr(value, name) for name in type(value).model_fields}
        after = {name: _with_valid_text(item) for name, item in before.items()}
        changes = {name: item for name, item in after.items() if item is not before[name]}
        return value.model_copy(update=changes) if changes else value
    if isinstance(value, tuple):
        items = tuple(map(_with_valid_text, value))
        return items if any(item is not old for item, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        pairs = {_with_valid_text(name): _with_valid_text(item) for name, item in value.items()}
        return pairs if any(pairs.get(name) is not item for name, item in value.items()) else value
    return value


def write_model(folder: Path, name: str, value: FrozenModel) -> None:
    """Write ``value`` as JSON to ``folder/name`` atomically: a reader never sees an incomplete file.

    Raises:
        OSError: If it can't be written; nothing of it is left then.
    """
    partial = folder / f".{name}.{os.getpid()}"
    try:
        partial.write_text(value.model_dump_json())
        partial.rename(folder / name)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
