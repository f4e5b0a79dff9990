"""Defaults of options from the user's configuration (:mod:`harness.configuration`), as a kind of command.

An option is taken from the command line, else from its environment variable, else from the configuration, else it has
its built-in default.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typer.core import TyperCommand

from harness.cli import output
from harness.errors import HarnessError, UsageError, suggest_name

if TYPE_CHECKING:
    from harness.configuration import Configuration

MAX_SHOWN_LENGTH = 80
NOT_CONFIGURED = {"help", "yes"}
"""What is said on the command line alone: that something is deleted, among them."""
RESUMED = {"store"}
"""What ``--resume`` takes from the configuration: a sweep that goes on has its options from the store."""

USED = "harness.cli.configured"
"""Of what the configuration set, in the context of a command: the places by the options' names."""

Source = Literal["command line", "environment", "configuration", "default"]
SOURCES: Mapping[str, Source] = {
    "COMMANDLINE": "command line",
    "ENVIRONMENT": "environment",
    "DEFAULT_MAP": "configuration",
}


@dataclass(frozen=True)
class ConfiguredValue:
    """A value of the configuration.

    Args:
        value: As the parser of options takes it: texts, or whether a flag is given.
        place: The file and line that set it.
    """

    value: Any
    place: str


def key_of(parameter: Any) -> str:
    """The key of an option, its long name without dashes in front; of an argument, its name."""
    return next((str(name[2:]) for name in parameter.opts if name.startswith("--")), str(parameter.name))


def _keys(parameter: Any) -> list[str]:
    """All keys of an option, which may have several names."""
    if parameter.name in NOT_CONFIGURED:
        return []
    return [name[2:] for name in parameter.opts if name.startswith("--")] or [parameter.name]


def configured_values(command: str, parameters: list[Any], configuration: Configuration) -> dict[str, ConfiguredValue]:
    """The values that the configuration gives to a command, by the parameter's name.

    Args:
        command: The command's name; that of a command of a group too: ``sweeps list``.
        parameters: The command's parameters.
        configuration: The user's.

    Raises:
        UsageError: A key is unknown, or its value is of no kind that the option takes. It names file and line.
    """
    by_key = {key: parameter for parameter in parameters for key in _keys(parameter)}
    found = {}
    if configuration.store is not None and "store" in by_key:
        found[by_key["store"].name] = ConfiguredValue(configuration.store, configuration.place("store"))
    table: Any = configuration.tables
    for part in command.split():
        table = table.get(part, {}) if isinstance(table, Mapping) else {}
    for key, value in table.items():
        place = configuration.place(*command.split(), key)
        parameter = by_key.get(key.replace("_", "-")) or by_key.get(key)
        if parameter is None:
            from bench.core.text import one_line  # a list of commands needs none of it

            shown = one_line(key, MAX_SHOWN_LENGTH)
            raise UsageError(f"{place}: {command} has no option '{shown}'{suggest_name(key, by_key)}")
        found[parameter.name] = ConfiguredValue(_as_given(parameter, value, f"{place}: {key}"), place)
    return found


def _as_given(parameter: Any, value: Any, place: str) -> Any:
    """A TOML value as the words of a command line."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{place} is true or false")
        return value
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    if several and isinstance(value, Mapping):  # [tool.scaling.sweep.env] OMP_NUM_THREADS = [1, 2]
        return [f"{name}={_csv(_texts(values, place))}" for name, values in value.items()]
    texts = _texts(value, place)
    if not several and isinstance(value, list):
        raise UsageError(f"{place} takes one value")
    return texts if several else texts[0]


def _texts(value: Any, place: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if any(type(one) not in (str, int, float) for one in values):
        raise UsageError(f"{place} takes texts and numbers")
    if any("\0" in str(one) for one in values):
        raise UsageError(f"{place} holds the character U+0000, which no name or path has; remove it")
    return [str(one) for one in values]


def _csv(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def source_of(context: Any, parameter: Any) -> Source:
    """Where the value of a parameter is from."""
    return SOURCES.get(getattr(context.get_parameter_source(parameter.name), "name", ""), "default")


def configured_names(context: Any) -> frozenset[str]:
    """The parameters of a command whose values are the configuration's: nobody has asked for them in this call."""
    return frozenset(one.name for one in context.command.params if source_of(context, one) == "configuration")


class ConfiguredCommand(TyperCommand):
    """A command whose options have defaults from the user's configuration."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if extra.get("resilient_parsing") or {"-h", "--help"} & set(args):
            return super().make_context(info_name, args, parent, **extra)
        from harness.configuration import check_commands, find_configuration

        name = " ".join(filter(None, [_group_of(parent), info_name]))
        configuration, given, resumed = find_configuration(), list(args), "--resume" in args
        if parent is not None:
            check_commands(configuration, parent.find_root().command.commands)
            if group := _group_of(parent):
                check_commands(configuration, parent.command.commands, group)
        values = configured_values(name, self.params, configuration)
        if resumed:
            values = {name: value for name, value in values.items() if name in RESUMED}
        try:
            defaults = {name: value.value for name, value in values.items()}
            context = super().make_context(info_name, args, parent, default_map=defaults, **extra)
        except Exception as problem:
            parameter = getattr(problem, "param", None)
            if parameter is None or parameter.name not in values or _is_given(parameter, given):
                raise
            shown = " ".join(str(getattr(problem, "message", problem)).split())
            raise UsageError(f"{values[parameter.name].place}: {key_of(parameter)}: {shown}") from None
        used = [parameter for parameter in self.params if source_of(context, parameter) == "configuration"]
        plugins = configuration.plugins if "plugins" in context.params and not resumed else []
        words = [word for file in plugins for word in ("--plugin", file)]
        for parameter in used:
            value = context.params[parameter.name] = _from_folder(context.params[parameter.name], configuration.folder)
            words += _words(parameter, value if isinstance(value, Path) else values[parameter.name].value)
        if plugins:
            context.params["plugins"] = [*plugins, *(context.params["plugins"] or ())]
        context.meta[USED] = {name: values[parameter.name].place for parameter in used for name in parameter.opts}
        output.configured_words.set(tuple(words))
        return context

    def invoke(self, ctx: Any) -> Any:
        with _located(ctx.meta.get(USED, {})):
            return super().invoke(ctx)


def _words(parameter: Any, value: Any) -> list[str]:
    """A value as the words of a command line."""
    if isinstance(value, bool):
        return list((parameter.opts if value else parameter.secondary_opts)[:1])
    values = [str(one) for one in (value if isinstance(value, list) else [value])]
    if parameter.param_type_name == "argument":
        return values
    return [word for one in values for word in (f"--{key_of(parameter)}", one)]


def _group_of(context: Any) -> str:
    """The name of the group that a command belongs to; empty for one of the top."""
    return str(context.info_name) if context is not None and context.parent is not None else ""


def _is_given(parameter: Any, args: list[str]) -> bool:
    return any(word.partition("=")[0] in parameter.opts for word in args)


def _from_folder(value: Any, folder: Path) -> Any:
    """A path of the configuration, which is relative to its folder."""
    return folder / value if isinstance(value, Path) and folder != Path.cwd() else value


@contextmanager
def _located(places: Mapping[str, str]) -> Iterator[None]:
    """Name file and line in an error about an option that the configuration set. ``places``: by the option's names."""
    try:
        yield
    except HarnessError as problem:
        named = str(problem).partition(" ")[0].rstrip(":")
        if named not in places:
            raise
        raise type(problem)(f"{places[named]}: {problem}") from None
