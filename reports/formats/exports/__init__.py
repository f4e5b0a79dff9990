"""Stored trials in other tools' formats. A new file here, with a ``FORMAT``, is all that a new format needs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from reports.formats.trial_rows import SweepTable


class CannotExport(ValueError):
    """The format can't hold these trials, or lacks what writes it; the message names the remedy."""


@dataclass(frozen=True)
class Export:
    """A whole file. ``left_out``: what the format has no place for, a line each."""

    content: str | bytes
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format is named after its file. ``render`` is pure, and raises :class:`CannotExport`."""

    summary: str
    suffixes: tuple[str, ...]
    """Of the files that are taken to be of this format."""
    render: Callable[[SweepTable], Export]
    text: bool = True
    """Whether it may go to standard output."""


def format_names() -> list[str]:
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def load_format(name: str) -> Format:
    """The format in ``reports/exports/<name>.py``, an underscore there for each hyphen of the name."""
    export_format: Format = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    return export_format
