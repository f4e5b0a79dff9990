"""Dates that a clock may have got wrong: nights are ordered by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""A clock that was never set says 1970 or 1980."""
MAX_AHEAD = timedelta(days=1)
"""Local time that was taken for UTC is less than a day ahead."""


def parse_moment(text: str) -> datetime | None:
    """An ISO 8601 date or time, in UTC where it names no time zone; ``None`` for other text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_of(text: str) -> float:
    """An ISO 8601 time as seconds since 1970. Raises :class:`ValueError` for other text."""
    moment = parse_moment(text)
    if moment is None:
        raise ValueError(f"'{text}' is no date")
    return moment.timestamp()


def date_problem(text: str, now: datetime | None = None) -> str:
    """Why nothing can have been measured at that time, as the end of a sentence; empty where it can.

    Args:
        text: ISO 8601.
        now: Default: this machine's clock. One that is not set says nothing about the future.
    """
    moment, now = parse_moment(text), now or datetime.now(UTC)
    if moment is None:
        return f"dated '{text[:40]}', which is no date"
    if moment < EARLIEST:
        return f"dated {text}: the clock was not set"
    if now >= EARLIEST and moment > now + MAX_AHEAD:
        return f"dated {text}, in the future: the clock was wrong"
    return ""
