"""Stored trials in other tools' formats: a format is a module of this package with a ``FORMAT``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from reports.formats.trial_rows import SweepTable


class CannotExport(ValueError):
    """The format can't represent these trials, or a package that it needs is missing; the message names the remedy."""


@dataclass(frozen=True)
class Export:
    """A whole file. ``left_out``: a line for each thing that the format can't represent."""

    content: str | bytes
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """An export format, named after its module. ``render`` is pure, and raises :class:`CannotExport`."""

    summary: str
    suffixes: tuple[str, ...]
    """File name suffixes by which the format is recognized."""
    render: Callable[[SweepTable], Export]
    text: bool = True
    """Whether it may be written to standard output."""


def format_names() -> list[str]:
    """The names of all formats, with a hyphen for each underscore of the module."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def load_format(name: str) -> Format:
    """The format of a name, from ``reports/formats/exports/<name>.py`` with an underscore for each hyphen."""
    export_format: Format = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    return export_format
