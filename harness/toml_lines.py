"""Where a TOML text sets a key, for messages."""

from __future__ import annotations

import re


def find_toml_line(text: str, *locations: tuple[str, ...]) -> int:
    """The line of a TOML text that sets most of one of these keys; 1 where none is found.

    Args:
        text: The TOML text.
        locations: Keys as their parts, outermost first; numbers (positions in an array) are left out of account.
    """
    keys = [tuple(part for part in location if not part.isdigit()) for location in locations]
    best, line_number = 0, 1
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[+([^\]]+)\]", line)
        if header:
            table = path = _split_key(header.group(1))
        else:
            path = table + _split_key(line.split("=", 1)[0]) if "=" in line else ()
        if len(path) > best and any(path == key[: len(path)] for key in keys):
            best, line_number = len(path), number
    return line_number


def _split_key(key: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
