"""Times of training steps in the lines of a log, found by a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.importers import FileRuns
from harness.importers.documents import Source
from harness.importers.limits import open_table
from harness.importers.pattern_time import MATCH_LIMIT_S, PatternTimeError, limited_lines

COLORS = re.compile(r"\x1b\[[0-9;]*m")
MIN_LINES = 4
"""A log of fewer lines is read whole; of a longer one the first is left out, in which the program warms up."""
UNITS = {
    "s": lambda value: value,
    "ms": lambda value: value / 1e3,
    "us": lambda value: value / 1e6,
    "per_s": lambda value: 1 / value,
}
"""A pattern's group that holds the number, and the seconds that it stands for: a rate becomes the time of one unit."""
GROUPED_DIGITS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
"""``4,155``: commas that group digits. Any other comma is a decimal one, as in ``147,6``."""
OTHER_GROUPS = ("step", "name")
TABLE = "name the group of the number s, ms, us or per_s, as in '(?P<ms>[0-9.]+) ms/step'"


@dataclass(frozen=True)
class LogPattern:
    """What a line of a training log looks like.

    Args:
        title: What is measured, for the name of the series: ``iteration``.
        expression: Its named group ``s``, ``ms``, ``us`` or ``per_s`` is the number. Where there is
            a group ``step``, the slowest of several ranks that report a step counts. ``name`` becomes a part of the
            name of the series, since its value makes another series.
    """

    title: str
    expression: re.Pattern[str]

    @property
    def unit(self) -> str:
        """The group that holds the number."""
        return next(name for name in UNITS if name in self.expression.groupindex)


@dataclass(frozen=True)
class _Timing:
    step: str | None
    seconds: float
    name: str


def parse_pattern(text: str) -> LogPattern:
    """A pattern that a user gave. Raises :class:`UsageError` naming what is wrong with it."""
    try:
        expression = re.compile(text)
    except re.error as problem:
        raise UsageError(f"--pattern: is no regular expression ({problem}); {TABLE}") from None
    groups = [name for name in expression.groupindex if name in UNITS]
    unknown = [name for name in expression.groupindex if name not in (*UNITS, *OTHER_GROUPS)]
    if len(groups) != 1 or unknown:
        found = f"has the unknown group '{unknown[0]}'" if unknown else f"has {len(groups)} groups with a number"
        raise UsageError(f"--pattern: {found}; {TABLE}")
    return LogPattern("pattern", expression)


def read_log(path: Path, night: str | None, pattern: LogPattern) -> FileRuns:
    """The run in a log, a series for each name that the pattern finds.

    Args:
        path: The log.
        night: The label of its night; ``None``: the day on which it was last written (UTC).
        pattern: What its lines look like.

    Raises:
        UsageError: The file cannot be read, no line matches, or one takes the pattern too long.
    """
    try:
        with open_table(path, compressed=path.suffix == ".gz") as file:
            content = file.read()
    except (OSError, EOFError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise UsageError(f"{path}: cannot be read ({reason}); name a log") from None
    source = Source(path, content, night)
    try:
        with closing(limited_lines(content.decode("utf-8", "replace").splitlines())) as lines:
            found = list(_timings(lines, pattern))
    except PatternTimeError as problem:
        raise UsageError(
            f"{path}:{problem.line}: the pattern {pattern.expression.pattern!r} took more than {MATCH_LIMIT_S} s with "
            "this line; write one without nested repeats by --pattern, or shorten the line"
        ) from None
    if not found:
        raise UsageError(f"{path}: no line has a time; the pattern is {pattern.expression.pattern!r}")
    runs = []
    for name in dict.fromkeys(timing.name for timing in found):
        seconds = slowest_by_step([timing for timing in found if timing.name == name])
        left = seconds[1:] if len(seconds) >= MIN_LINES else seconds
        title = f"{path.stem}: {pattern.title}" + (f", {name}" if name else "")
        runs.append(source.run(title, None, tuple(left), source.modified_at, {}))
    return FileRuns(runs)


def slowest_by_step(timings: Iterable[_Timing]) -> list[float]:
    """The time of each step, in seconds: of its slowest rank where several report it (pure)."""
    slowest: dict[str | int, float] = {}
    for number, timing in enumerate(timings):
        step = number if timing.step is None else timing.step
        slowest[step] = max(slowest.get(step, 0.0), timing.seconds)
    return list(slowest.values())


def _timings(lines: Iterable[str], pattern: LogPattern) -> Iterator[_Timing]:
    for line in lines:
        match = pattern.expression.search(COLORS.sub("", line))
        if match is None:
            continue
        groups = match.groupdict()
        try:
            value = _number(groups[pattern.unit])
        except (AttributeError, ValueError):
            continue
        seconds = UNITS[pattern.unit](value) if value > 0 else 0.0
        if 0 < seconds < float("inf"):
            yield _Timing(groups.get("step"), seconds, groups.get("name") or "")


def _number(text: str) -> float:
    """Raises :class:`ValueError`, or :class:`AttributeError` for ``None``."""
    return float(text.replace(",", "" if GROUPED_DIGITS.fullmatch(text) else "."))
