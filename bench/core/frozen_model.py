"""The base class of every value that crosses a process or file boundary."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable pydantic model; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


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
