"""The order of labels: numbers in them count as numbers, and versions as versions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from packaging.version import InvalidVersion, Version

_DIGITS = re.compile(r"(\d+)")


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sorting key by which ``python 3.9.1`` comes before ``python 3.10.0``."""
    parts = [part for part in _DIGITS.split(text) if part]
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


@lru_cache(maxsize=100_000)
def parse_version(label: str) -> Version | None:
    """The version that a label is (PEP 440); ``None`` for other text."""
    try:
        return Version(label)
    except InvalidVersion:
        return None


def all_versions(labels: Iterable[str]) -> bool:
    """Whether every label is a version: whole numbers and ``3.10`` are, dates and ``1e3`` are not."""
    return all(parse_version(label) is not None for label in labels)
