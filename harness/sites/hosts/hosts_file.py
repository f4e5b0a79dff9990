"""The hosts file: the machines on which ssh may start ranks, one on each line.

# name, then the settings that differ from the site's options
n1
n2 slots=4 address=10.0.0.2 user=bench port=2222 python=/opt/venv/bin/python
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from bench.core.frozen_model import FrozenModel
from harness.errors import UsageError, suggest_name

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
ADDRESS_PATTERN = r"^[A-Za-z0-9:]([A-Za-z0-9._:-]*[A-Za-z0-9:])?$"
USER_PATTERN = r"^[A-Za-z_][A-Za-z0-9._-]*$"
PATH_PATTERN = r"""^[^\x00-\x1f\x7f"\\$-][^\x00-\x1f\x7f"\\$]*$"""
"""A path that ssh's configuration can hold in quotation marks."""


class Host(FrozenModel):
    """A machine that ssh reaches. ``None``: the site's option applies."""

    name: str = Field(pattern=NAME_PATTERN)
    slots: int | None = Field(None, ge=1)
    """The largest number of ranks on it; ``None``: no limit."""
    address: str | None = Field(None, pattern=ADDRESS_PATTERN)
    """Its address, for ssh and for the other hosts; ``None``: its name."""
    user: str | None = Field(None, pattern=USER_PATTERN)
    port: int | None = Field(None, ge=1, le=65535)
    python: str | None = Field(None, pattern=PATH_PATTERN)

    @property
    def connect_address(self) -> str:
        """Its address, or else its name."""
        return self.address or self.name


HOST_SETTINGS = tuple(name for name in Host.model_fields if name != "name")


def read_hosts(path: Path) -> tuple[Host, ...]:
    """The hosts of a file, in its order. Raises :class:`UsageError` with file and line."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        detail = (problem.strerror or str(problem)).lower() if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"hosts.file = {path}: can't be read: {detail}; name a file with one host on each line, "
            "for example `n1 slots=2`"
        ) from None
    hosts = parse_hosts(text, str(path))
    if not hosts:
        raise UsageError(f"{path}: names no host; write one on each line, for example `n1 slots=2`")
    return hosts


def parse_hosts(text: str, source: str) -> tuple[Host, ...]:
    """The hosts of a file's text (pure). Raises :class:`UsageError` that names ``source`` and the line."""
    hosts: dict[str, Host] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        location = f"{source}:{number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as problem:
            raise UsageError(f"{location}: {str(problem).lower()}; close the quotation") from None
        if not words:
            continue
        host = _parse_host(words, location)
        if host.name in hosts:
            raise UsageError(f"{location}: host '{host.name}' is named twice; set slots=K instead")
        hosts[host.name] = host
    return tuple(hosts.values())


def _parse_host(words: list[str], location: str) -> Host:
    settings: dict[str, Any] = {"name": words[0]}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals or name not in HOST_SETTINGS:
            raise UsageError(f"{location}: '{word}' is not a setting of a host{suggest_name(name, HOST_SETTINGS)}")
        if name in settings:
            raise UsageError(f"{location}: {name} is set twice")
        settings[name] = value
    try:
        return Host.model_validate(settings)
    except ValidationError as problem:
        first = problem.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(f"{location}: {name} = '{settings[name]}' {_expectation(name)}") from None


def _expectation(name: str) -> str:
    return {
        "slots": "is not a number of ranks from 1",
        "port": "is not a port from 1 to 65535",
        "python": 'is not a path: leave out control characters, " \\ and $',
    }.get(name, "has other characters than letters, digits, dots and hyphens")
