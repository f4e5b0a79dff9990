"""Errors meant for the user, and exit codes. Other exceptions keep their traceback.

The text of a :class:`HarnessError` is one line that names the place and the remedy.

    HarnessError          exit 2
    ├── UsageError        a wrong name, option, number or key
    ├── DataError         a missing or damaged data file
    ├── OutputError       a file that can't be written, or is not ours
    ├── NetworkError      links between ranks that can't be made
    ├── SiteError         a cluster that refuses a request, or can't be reached
    ├── StoreError        a store that can't be read or written
    └── CommandError      a command that a program ran, and that ended without a result

Exit codes: 0 fine · 1 regression found · 2 bad usage or input · 3 cannot tell · 4 some trials failed, or none ran ·
70 a defect of this project or of a plugin, with a traceback in a file · 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_TRIALS_FAILED = 4
EXIT_DEFECT = 70
"""``EX_SOFTWARE`` of ``sysexits.h``. Python's own 1 would be a regression."""
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """An error that the user can correct."""

    exit_code = EXIT_USAGE


class UsageError(HarnessError):
    """A wrong name, option, number or key.

    Args:
        message: One line: the place, what is wrong, the remedy.
        place: The key of the suite that holds it, as its parts, where that is known.
    """

    def __init__(self, message: str, place: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.place = place


class DataError(HarnessError):
    """A missing or damaged data file."""


class OutputError(HarnessError):
    """An output file that can't be written, or would replace something that the harness has not written."""


class NetworkError(HarnessError):
    """Links between ranks that can't be made."""


class SiteError(HarnessError):
    """A cluster that refuses a request, or can't be reached."""


class StoreError(HarnessError):
    """A store that can't be read or written."""


class CommandError(HarnessError):
    """A command that a program ran (:func:`harness.run`), and that ended without a result.

    Args:
        message: The line that the command ended with.
        exit_code: Its exit code.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


PARSING_ERRORS = {"int_parsing": "a whole number", "float_parsing": "a number"}
"""Types of pydantic's errors in text that is no number, and what it should be."""


def describe_validation_error(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """One of pydantic's errors in a few words; where a pattern is not matched, with the field's description."""
    if error["type"] == "string_pattern_mismatch":
        name = next((str(part) for part in error["loc"] if part in fields), "")
        description = fields[name].description if name else None
        return "has a form that is not allowed" + (f"; {name}: {description}" if description else "")
    if error["type"] in PARSING_ERRORS:
        return f"expected {PARSING_ERRORS[error['type']]}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def suggest_name(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where a known name is close, else ``; known: a, b``."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(options) or 'none'}"
