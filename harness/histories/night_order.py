"""When a night was, from how it is called: a number, or an ISO 8601 date or date-time. Never both in one history."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from harness.histories.table_faults import NUMBER, BadLabelError

Moment = Decimal | datetime


@lru_cache(maxsize=4)
def night_positions(labels: tuple[str, ...]) -> tuple[int, ...]:
    """The place of each label in time: 0 is the oldest; labels of the same moment share one.

    Raises :class:`BadLabelError` where one is no night, or not of the kind of the first.
    """
    moments = [_moment_of(label) for label in labels]
    for label, moment in zip(labels, moments, strict=True):
        if type(moment) is not type(moments[0]):
            raise BadLabelError(
                {"night": label},
                f"night '{label}' is {_moment_kind(moment)}, others such as '{labels[0]}' are {_moment_kind(moments[0])}; "
                "use one kind throughout",
            )
    order = {moment: position for position, moment in enumerate(sorted(set(moments)))}
    return tuple(order[moment] for moment in moments)


@lru_cache(maxsize=100_000)
def _moment_of(label: str) -> Moment:
    if NUMBER.fullmatch(label):
        return Decimal(label)
    try:
        moment = datetime.fromisoformat(label)
    except ValueError:
        raise BadLabelError(
            {"night": label}, f"night '{label[:40]}' is neither a number nor a date; write it as 2026-01-31 or as 31"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment_kind(moment: Moment) -> str:
    return "a number" if isinstance(moment, Decimal) else "a date"
