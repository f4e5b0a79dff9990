"""Stored trials in other tools' formats. A format is one file that defines ``FORMAT``, which is of one of three kinds:
:class:`Format` is a file, :class:`FolderFormat` files in a folder, :class:`Tracker` runs of an experiment tracker."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import NamedTuple

from bench.plugins.registry import PluginKind
from reports.formats.sweep_records import SweepRecord
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
class AnyFormat:
    """What all export formats have. A format is named after its module."""

    summary: str


@dataclass(frozen=True)
class Format(AnyFormat):
    """A file. ``render`` is pure, and raises :class:`CannotExport`."""

    suffixes: tuple[str, ...]
    """File name suffixes by which the format is recognized."""
    render: Callable[[SweepTable], Export]
    text: bool = True
    """Whether it may be written to standard output."""
    signature: re.Pattern[bytes] | None = None
    """What the first or the last 64 KiB of every file of this format hold, and those of no other: such a file may be
    replaced by a new one. ``None``: no file is replaced."""
    needs_cells: bool = False
    """Whether it reads :attr:`reports.formats.trial_rows.SweepTable.cells`, which are empty otherwise."""


class FileOfFolder(NamedTuple):
    """A file of an exported folder."""

    path: PurePosixPath
    """In the folder; its parts are letters, digits, ``.``, ``_`` and ``-``."""
    content: bytes


@dataclass(frozen=True)
class FolderFormat(AnyFormat):
    """Files in a folder. ``files`` is pure, and raises :class:`CannotExport`; the same sweeps give the same files."""

    files: Callable[[Iterable[SweepRecord]], Iterator[FileOfFolder]]
    signature: re.Pattern[bytes]
    """See :attr:`Format.signature`."""


class Tracked(NamedTuple):
    """What an export did in a tracker."""

    written: int
    """The runs that are new, or have changed."""
    unchanged: int
    """The runs that were there already."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tracker(AnyFormat):
    """Runs of an experiment tracker, which its own library writes. Exporting a sweep again doubles nothing.

    ``write`` takes the sweeps and the destination that ``--out`` names; it raises :class:`CannotExport`.
    """

    write: Callable[[Iterable[SweepRecord], str], Tracked]
    out: str
    """What ``--out`` names, for messages: ``a tracking URI``."""
    variable: str | None = None
    """The environment variable that names the destination where ``--out`` does not."""


NAME_SEPARATOR = "-"
"""A format's name has a hyphen for each underscore of its file's."""
FORMATS: PluginKind[AnyFormat] = PluginKind("format", AnyFormat, __name__)


def format_names() -> list[str]:
    """The names of all formats."""
    return sorted(FORMATS.names())


def load_format(name: str) -> AnyFormat:
    """The format of that name. Raises :class:`bench.plugins.registry.UnknownPlugin`."""
    return FORMATS.load(name)


def require_packages(format_name: str, modules: Mapping[str, str]) -> None:
    """Raise :class:`CannotExport` with the remedy where a module is missing; ``modules``: its package by its name."""
    missing = [package for module, package in modules.items() if find_spec(module) is None]
    if missing:
        packages = " ".join(missing)
        verb = "is" if len(missing) == 1 else "are"
        raise CannotExport(
            f"{' and '.join(missing)} {verb} not installed; run `python -m pip install {packages}` "
            f"(the extra `{format_name}`)"
        )
