"""The command of a user's program as text: ``train.py --epochs 1 --batch {batch=32,64}``. All is pure.

``{name=a,b}`` is an axis of the sweep: each of its values is an argument of cases of their own. ``{ranks}`` is the
number of ranks of the case. ``{{`` and ``}}`` stand for braces.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.core.bounds import MAX_COUNT
from bench.core.case import Scalar

RANKS = "ranks"
"""The placeholder for the number of ranks."""
MAX_COMMAND_LENGTH = 4096
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_]\w{0,31}")
_EXAMPLE = "such as {batch=32,64} (braces themselves are written {{ and }})"


class CommandProblem(ValueError):
    """A command that can't be understood. The text is one line that says what is wrong with it."""


class ParsedCommand(NamedTuple):
    """A command and its axes."""

    template: str
    """The command in which each axis is its name alone: ``train.py --batch {batch}``."""
    axes: dict[str, tuple[Scalar, ...]]
    """The values of each axis, by name."""


@dataclass(frozen=True)
class _Placeholder:
    name: str
    values: str | None
    """The text after the equals sign; ``None``: there is none."""


def parse_command(text: str) -> ParsedCommand:
    """Take the axes out of a command.

    Raises:
        CommandProblem: Braces do not match, a name or a list of values is none, or an axis is given twice.
    """
    parts: list[str] = []
    axes: dict[str, tuple[Scalar, ...]] = {}
    for part in _parts(text):
        if isinstance(part, str):
            parts.append(part)
            continue
        parts.append(f"{{{part.name}}}")
        if part.values is None:
            continue
        if part.name == RANKS:
            raise CommandProblem("{ranks=…}: the numbers of ranks are given by --ranks; write {ranks}")
        if part.name in axes:
            raise CommandProblem(f"{{{part.name}=…}} is given twice; write {{{part.name}}} the second time")
        axes[part.name] = _parse_values(part.name, part.values)
    return ParsedCommand("".join(parts), axes)


def placeholder_names(template: str) -> tuple[str, ...]:
    """The names of a template's placeholders but :data:`RANKS`, each once. Raises :class:`CommandProblem`."""
    names = (part.name for part in _parts(template) if isinstance(part, _Placeholder))
    return tuple(name for name in dict.fromkeys(names) if name != RANKS)


def split_command(template: str) -> tuple[str, ...]:
    """The words of a command, with their placeholders. Raises :class:`CommandProblem` where a quote does not end."""
    try:
        return tuple(shlex.split(template))
    except ValueError as problem:
        raise CommandProblem(f"{problem}; quote as in a shell") from None


def fill_command(template: str, values: Mapping[str, Scalar]) -> tuple[str, ...]:
    """The words of a command with the values of its placeholders, which may hold any character.

    Args:
        template: A command whose axes are names.
        values: By name, :data:`RANKS` included.

    Raises:
        CommandProblem: A placeholder has no value.
    """
    return tuple("".join(_fill(part, values) for part in _parts(word)) for word in split_command(template))


def _fill(part: str | _Placeholder, values: Mapping[str, Scalar]) -> str:
    if isinstance(part, str):
        return part[0] if part in ("{{", "}}") else part
    if part.name not in values:
        raise CommandProblem(f"unknown {{{part.name}}}: give it values, {_EXAMPLE}")
    return str(values[part.name])


def _parts(text: str) -> Iterator[str | _Placeholder]:
    """Text as it is (``{{`` alone, too) and placeholders, in order."""
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            yield text[end : found.start()]
        end = found.end()
        if found[0] in ("{{", "}}"):
            yield found[0]
        elif found[1] is None:
            raise CommandProblem(f"unmatched '{found[0]}': write axes {_EXAMPLE}")
        else:
            name, equals, values = found[1].partition("=")
            if not _NAME.fullmatch(name):
                raise CommandProblem(f"'{found[0]}': an axis has a name of at most 32 letters and digits, {_EXAMPLE}")
            yield _Placeholder(name, values if equals else None)
    if text[end:]:
        yield text[end:]


def _parse_values(name: str, text: str) -> tuple[Scalar, ...]:
    try:
        (values,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise CommandProblem(f"{{{name}=…}}: a quoted value ends with its quote, before a comma or the end") from None
    if not text or not all(values):
        raise CommandProblem(f"{{{name}={text}}}: a value is empty; name at least one, {_EXAMPLE}")
    numbers_and_texts = tuple(map(_scalar, values))
    if len(set(numbers_and_texts)) < len(values):
        raise CommandProblem(f"{{{name}={text}}} names a value twice")
    return numbers_and_texts


def _scalar(text: str) -> Scalar:
    """The number that is written exactly so, so that values are in order and arguments as given; else the text, also of
    what is no number of JSON (``inf``, a seed of 64 bits)."""
    for number in (int, float):
        try:
            if str(number(text)) == text and abs(number(text)) <= MAX_COUNT:
                return number(text)
        except ValueError:
            continue
    return text
