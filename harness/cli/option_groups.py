"""Options of a command as fields of dataclasses, for commands that have too many for one signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import OptionInfo


def takes_groups(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command take options as dataclasses: each field of a parameter's dataclass is an option of the command.

    The first line of the dataclass's docstring, without its full stop, is the heading of its options in ``--help``.

    Args:
        command: A function, of whose parameters some are annotated with a dataclass.

    Returns:
        The command with one parameter for each option, as Typer reads it.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _options_of(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**given: Any) -> int:
        values = {
            name: kind(**{option.name: given.pop(option.name) for option in fields(kind)})
            for name, kind in groups.items()
        }
        return command(**given, **values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # its signature would be read instead
    return run


def _options_of(group: type) -> Iterator[inspect.Parameter]:
    heading = (group.__doc__ or "").partition("\n")[0].removesuffix(".")
    hints = get_type_hints(group, include_extras=True)
    for option in fields(group):
        kind, description = get_args(hints[option.name])
        if isinstance(description, OptionInfo):
            description = copy(description)
            description.rich_help_panel = heading
        yield inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=Annotated[kind, description],
        )
