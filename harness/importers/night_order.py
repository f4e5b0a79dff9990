"""The order of nights in a table: numbers, versions, or ISO 8601 dates and date-times, of one kind throughout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from packaging.version import Version

from harness.importers.csv_labels import BadLabelError
from harness.importers.csv_rows import NUMBER
from reports.analysis.label_order import all_versions, parse_version

Moment = Decimal | datetime | Version


@lru_cache(maxsize=4)
def night_positions(labels: tuple[str, ...]) -> tuple[int, ...]:
    """The position of each night in time: 0 is the oldest; labels of the same moment share one.

    Raises :class:`BadLabelError` for a label that is no night, or not of the kind of the first.
    """
    if all_versions(labels):
        return _positions([parse_version(label) for label in labels])
    moments = [_moment_of(label) for label in labels]
    for label, moment in zip(labels, moments, strict=True):
        if type(moment) is not type(moments[0]):
            raise BadLabelError(
                {"night": label},
                f"night '{label}' is {_moment_kind(moment)}, others "
                f"such as '{labels[0]}' are {_moment_kind(moments[0])}; "
                "use one kind throughout",
            )
    return _positions(moments)


def _positions(moments: Sequence[Any]) -> tuple[int, ...]:
    order = {moment: position for position, moment in enumerate(sorted(set(moments)))}
    return tuple(order[moment] for moment in moments)


@lru_cache(maxsize=100_000)
def _moment_of(label: str) -> Moment:
    if NUMBER.fullmatch(label):
        return Decimal(label)
    try:
        moment = datetime.fromisoformat(label)
    except ValueError:
        version = parse_version(label)
        if version is not None:
            return version
        raise BadLabelError(
            {"night": label},
            f"night '{label[:40]}' is neither a number nor a date, nor a version; write it as 2026-01-31, 31 or 3.10",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment_kind(moment: Moment) -> str:
    if isinstance(moment, Version):
        return "a version"
    return "a number" if isinstance(moment, Decimal) else "a date"
