"""Defaults in a file: the table ``[tool.scaling]`` of ``pyproject.toml``, or ``scaling.toml``.

The file is looked for in the current folder, then in the folders above it up to the root of the repository or the home
folder. It may name code that runs, as plugins and programs are, and is therefore read only where no other user can
change it, unless the variable ``SCALING_CONFIG`` names it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from bench.core.frozen_model import FrozenModel
from bench.core.text import one_line
from bench.host.paths import from_home
from bench.host.permissions import changeable_by_others
from harness.errors import UsageError, describe_validation_error, suggest_name
from harness.toml_lines import find_toml_line

OWN_FILE, PROJECT_FILE = "scaling.toml", "pyproject.toml"
PROJECT_TABLE = ("tool", "scaling")
FILE_VARIABLE = "SCALING_CONFIG"
"""The environment variable that names the file; empty: none is read."""
MAX_FILE_BYTES = 2**20
MAX_SHOWN_LENGTH = 80


class Common(FrozenModel):
    """What is not of one command."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    store: str | None = None
    """The results store of every command: a URL, or a file, relative to the configuration's folder."""
    plugins: tuple[str, ...] = ()
    """Files with plugins, for every command that takes them, beside those of ``--plugin``."""
    suites: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - pydantic copies it
    """Suites by name, each with the keys of a suite's file."""


@dataclass(frozen=True)
class Configuration:
    """The content of the file; an empty one where there is none.

    Args:
        path: The file; ``None``: there is none.
        text: Its text.
        prefix: The table that holds it all.
        tables: The tables of commands by name: ``{"sweep": {"ranks": [1, 2]}}``.
        common: The other keys.
    """

    path: Path | None = None
    text: str = ""
    prefix: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    common: Common = field(default_factory=Common)

    @property
    def folder(self) -> Path:
        """The folder that paths in the file are relative to."""
        return Path.cwd() if self.path is None else self.path.parent

    @property
    def store(self) -> str | None:
        """The store as ``--store`` takes it."""
        location = self.common.store
        if location is None or "://" in location or location.startswith("~") or self.folder == Path.cwd():
            return location
        return str(self.folder / location)

    @property
    def plugins(self) -> list[str]:
        """The files of plugins as ``--plugin`` takes them."""
        return [str(self.folder / from_home(file)) for file in self.common.plugins]

    @property
    def suites(self) -> Mapping[str, Mapping[str, Any]]:
        return self.common.suites

    def place(self, *key: str) -> str:
        """``file:line`` of a key, named by its parts below the table that holds it all."""
        return f"{self.path}:{find_toml_line(self.text, (*self.prefix, *key))}"


def find_configuration() -> Configuration:
    """The configuration of the current folder.

    Raises:
        UsageError: The file can't be read, other users can change it, or a common key has a wrong value.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named is not None:
        return _read(from_home(named), required=True) if named else Configuration()
    for folder in _folders(Path.cwd()):
        for name in (OWN_FILE, PROJECT_FILE):
            path = folder / name
            if path.is_file() and (configuration := _read(path, required=name == OWN_FILE)).path is not None:
                if place := changeable_by_others(path):
                    raise UsageError(
                        f"{path}: is not read as a configuration, since other users can change {place}: take that "
                        f"right from them, or name it by {FILE_VARIABLE}={path} (empty: read none)"
                    )
                return configuration
    return Configuration()


def _folders(current: Path) -> list[Path]:
    """The folders to look in: up to the root of a repository or the home folder, else the current one alone."""
    above = [current, *current.parents]
    for place, folder in enumerate(above):
        if (folder / ".git").exists() or folder == Path.home():
            return above[: place + 1]
    return [current]


def _read(path: Path, *, required: bool) -> Configuration:
    """The configuration in a file; an empty one where a file of many uses has none for us."""
    prefix = PROJECT_TABLE if path.name == PROJECT_FILE else ()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if not required and PROJECT_TABLE[-1].encode() not in data:
            return Configuration()
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: is too large for a configuration (at most {MAX_FILE_BYTES // 2**20} MiB)")
        text = data.decode("utf-8-sig")  # Editors of Windows write a byte order mark.
        content: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise UsageError(f"{path}: {problem}") from None
    except (OSError, ValueError, RecursionError) as problem:
        # Numbers of thousands of digits, and lists as deep, are no TOMLDecodeError.
        raise UsageError(f"{path}: cannot be read as a configuration ({one_line(str(problem), 200)})") from None
    for part in prefix:
        content = content.get(part) if isinstance(content, dict) else None
    if content is None and not required:
        return Configuration()
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{path}:{find_toml_line(text, prefix)}: {'.'.join(prefix)} is no table; write [tool.scaling]")
    content = content or {}
    try:
        common = Common.model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = tuple(str(part) for part in first["loc"])
        details = describe_validation_error(dict(first), Common.model_fields)
        where = f"{path}:{find_toml_line(text, (*prefix, *key))}"
        raise UsageError(f"{where}: {'.'.join(key)}: {details}") from None
    tables = {name: value for name, value in content.items() if name not in Common.model_fields}
    return Configuration(path.absolute(), text, prefix, tables, common)


def check_commands(configuration: Configuration, commands: Collection[str], group: str | None = None) -> None:
    """Raise :class:`UsageError` for a key that is no table of a command: of one of the top, or of one of a group."""
    tables, above = (configuration.tables, ()) if group is None else (configuration.tables.get(group, {}), (group,))
    for name, table in tables.items():
        where = configuration.place(*above, name)
        if name not in commands:
            known = suggest_name(name, [*commands, *(Common.model_fields if group is None else ())])
            raise UsageError(f"{where}: unknown key '{one_line(name, MAX_SHOWN_LENGTH)}'{known}")
        if not isinstance(table, dict):
            header = ".".join((*configuration.prefix, *above, name))
            raise UsageError(f"{where}: {name} is the name of a command, whose options are keys of a table [{header}]")
