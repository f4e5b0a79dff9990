"""The command ``config``: what commands take from the user's configuration, and where each value is from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from bench.host.secrets import mask_argument
from harness.cli.configured import NOT_CONFIGURED, ConfiguredValue, Source, configured_values, key_of
from harness.cli.output import JsonOption, VerbosityOption, print_json, stdout_console
from harness.configuration import OWN_FILE, PROJECT_FILE, Configuration, check_commands, find_configuration
from harness.errors import EXIT_OK, UsageError, suggest_name
from reports.formats.console import print_line
from reports.formats.documents import versioned

EXAMPLES = {
    "config": (
        "Examples:\n\n`python -m harness config` — what the file sets\n\n"
        "`python -m harness config sweep` — every option of a command, with its default"
    )
}


@dataclass(frozen=True)
class EffectiveOption:
    """The value that a command takes where the command line gives none."""

    command: str
    option: str
    value: str | None
    """As text; ``None``: the command chooses."""
    source: Source
    place: str | None
    """File and line, or the variable."""


def config(
    command: Annotated[str | None, typer.Argument(metavar="COMMAND", help="Show all options of this command.")] = None,
    as_json: JsonOption = False,
    verbosity: VerbosityOption = None,
) -> int:
    """Show the options that commands take from scaling.toml or pyproject.toml.

    The file is the first of the current folder and of those above it, up to the root of the repository or the home
    folder. Everything in it is checked.
    """
    from harness.cli.app import COMMANDS
    from harness.planning.suite import read_suite

    if command is not None and command not in COMMANDS:
        raise UsageError(f"config {command}: unknown command{suggest_name(command, COMMANDS)}")
    configuration = find_configuration()
    check_commands(configuration, COMMANDS)
    for name in configuration.suites:
        read_suite(name)
    options = [
        option
        for name in COMMANDS
        for option in _options_of(name, configuration)
        if (name == command if command else option.source != "default")
    ]
    path = None if configuration.path is None else str(configuration.path)
    if as_json:
        found = {"file": path, "plugins": configuration.plugins, "suites": sorted(configuration.suites)}
        print_json(versioned("config", {**found, "options": [asdict(option) for option in options]}))
    else:
        for line in _lines(path, configuration, options):
            print_line(stdout_console(), line)
    return EXIT_OK


def _options_of(name: str, configuration: Configuration) -> Iterator[EffectiveOption]:
    """The options of a command, or of those of a group."""
    from harness.cli.app import load_command

    loaded = load_command(name)
    if (inner := getattr(loaded, "commands", None)) is not None:
        check_commands(configuration, inner, name)
    for path, command in _commands(name, loaded):
        configured = configured_values(path, command.params, configuration)
        for parameter in command.params:
            if parameter.name not in NOT_CONFIGURED:
                yield _effective(path, parameter, configured.get(parameter.name))


def _commands(name: str, loaded: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(loaded, "commands", None)
    if inner is None:
        yield name, loaded
    else:
        yield from ((f"{name} {part}", command) for part, command in inner.items())


def _effective(command: str, parameter: Any, configured: ConfiguredValue | None) -> EffectiveOption:
    option, variable = key_of(parameter), parameter.envvar
    if variable and os.environ.get(variable):
        return EffectiveOption(command, option, mask_argument(os.environ[variable]), "environment", variable)
    if configured is not None:
        return EffectiveOption(command, option, _text(configured.value), "configuration", configured.place)
    default = None if parameter.default is None else _text(parameter.default)
    return EffectiveOption(command, option, default, "default", None)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(mask_argument(str(one)) for one in (value if isinstance(value, list | tuple) else [value]))


def _lines(path: str | None, configuration: Configuration, options: Sequence[EffectiveOption]) -> Iterator[str]:
    if path is None:
        yield f"no {OWN_FILE}, and no [tool.scaling] in a {PROJECT_FILE}, from this folder upwards"
    else:
        yield f"configuration: {path}"
    for file in configuration.plugins:
        yield f"plugin: {file}"
    for suite in sorted(configuration.suites):
        yield f"suite: {suite}"
    if configuration.store is not None:
        yield f"store: {mask_argument(configuration.store)} ({configuration.place('store')})"
    for option in options:
        if option.option == "store" and option.place == configuration.place("store"):
            continue
        origin = option.place if option.place is not None else "default"
        value = "–" if option.value is None else option.value
        yield f"{option.command}: {option.option} = {value} ({origin})"
