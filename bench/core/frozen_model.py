"""The base of every value that crosses a process or a file boundary."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """Immutable, and an unknown field is an error rather than a silent loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def write_model(folder: Path, name: str, value: FrozenModel) -> None:
    """Write under a hidden name, then rename: whoever watches the folder never reads half a file."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(value.model_dump_json())
    partial.rename(folder / name)
