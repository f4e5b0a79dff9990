"""Stored trials in other tools' formats. A format is one file that defines ``FORMAT``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.plugins.registry import PluginKind
from reports.formats.trial_rows import SweepTable


class CannotExport(ValueError):
    """The format can't represent these trials, or a package that it needs is missing; the message names the remedy."""


@dataclass(frozen=True)
class Export:
    """A whole file."""

    content: str | bytes
    left_out: tuple[str, ...] = ()
    """A line for each thing that the format can't represent."""
    notes: tuple[str, ...] = ()
    """What the reader of the file needs to be told."""


@dataclass(frozen=True)
class Format:
    """An export format, named after its module. ``render`` is pure, and raises :class:`CannotExport`."""

    summary: str
    suffixes: tuple[str, ...]
    """File name suffixes by which the format is recognized."""
    render: Callable[[SweepTable], Export]
    text: bool = True
    """Whether it may be written to standard output."""
    signature: re.Pattern[bytes] | None = None
    """What the first or the last 64 KiB of every file of this format hold, and those of no other: such a file may be
    replaced by a new one. ``None``: no file is replaced."""


NAME_SEPARATOR = "-"
"""A format's name has a hyphen for each underscore of its file's."""
FORMATS: PluginKind[Format] = PluginKind("format", Format, __name__, ("summary", "suffixes", "render"))


def format_names() -> list[str]:
    """The names of all formats."""
    return sorted(FORMATS.names())


def load_format(name: str) -> Format:
    """The format of that name. Raises :class:`bench.plugins.registry.UnknownPlugin`."""
    return FORMATS.load(name)
