"""Calls the functions of a user's file: each gets what its parameters name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bench.core.text import one_line

MAX_SHOWN = 80
"""Characters of a value in a message."""
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def call(function: Callable[..., Any], what: str, *first: Any, **offered: Any) -> Any:
    """Call a function with its first arguments, and with those of the offered ones that its parameters name.

    Args:
        function: A function or a class.
        what: What it is called in messages.
        first: Arguments by position.
        offered: Arguments by name; those that it has no parameter for are left out.

    Raises:
        TypeError: See :func:`named_arguments`.
    """
    return function(*first, **named_arguments(function, what, len(first), offered))


def named_arguments(function: Callable[..., Any], what: str, count: int, offered: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name of a function that gets ``count`` arguments by position before them.

    Raises:
        TypeError: It takes fewer arguments, or has a parameter without a default that is not offered.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a built-in function
        return {}
    by_position = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    takes_any = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    if len(by_position) < count and not takes_any:
        takes = {0: "no argument", 1: "one argument"}.get(len(by_position), f"{len(by_position)} arguments")
        raise TypeError(f"{what} takes {takes}, and gets {count}")
    others = [one for one in parameters if one not in by_position[:count]]
    named = {one.name: offered[one.name] for one in others if one.name in offered and one.kind != one.POSITIONAL_ONLY}
    required = (one.name for one in others if one.default is one.empty and one.kind not in VARIADIC)
    missing = next((name for name in required if name not in named), None)
    if missing is not None:
        choice = f"; it may take {', '.join(offered)}" if offered else ""
        raise TypeError(f"{what} takes '{missing}', which it does not get{choice}")
    return named


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters; none where they are unknown."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def shown(value: object) -> str:
    """A value in a message: its type, and a short text of it."""
    try:
        text = repr(value)
    except Exception:  # of the user's own making
        return type(value).__name__
    return f"{type(value).__name__} {one_line(text, MAX_SHOWN)}"
