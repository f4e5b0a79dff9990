"""What nobody expected: an exception becomes one line for the user, its traceback a file, the exit status 70.

Python would print the traceback and end with 1, which is a regression. This module imports nothing but the standard
library until there is something to report: an installation may be broken, and memory used up.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from harness.errors import EXIT_DEFECT

FOLDERS: Final = tuple(dict.fromkeys(filter(None, (os.environ.get("TMPDIR"), "/tmp", "/var/tmp"))))
"""Where tracebacks are kept: temporary folders of the user's, as they were named when this process started. Those of
its own (:mod:`bench.host.scratch`) are removed when it ends."""
FILE_PREFIX = "scaling-harness-traceback-"
MAX_MESSAGE_LENGTH = 300
MAX_FILES = 5
"""Of one process: a thread or a destructor may fail again and again."""

_kept = 0


def report_defect(problem: BaseException) -> int:
    """Say in one line on standard error what was raised and where the traceback is; returns the exit status.

    It raises nothing, whatever state the process is in. Where no folder takes the file, the traceback follows the line.
    """
    try:
        _say(f"error: {_describe(problem)}: a defect, of this project or of a plugin", problem)
    except BaseException:  # no memory, say: the status is all that is left
        with suppress(OSError):
            os.write(2, f"error: {type(problem).__name__}: a defect; no memory was left to say more\n".encode())
    return EXIT_DEFECT


def install_hooks() -> None:
    """Report what is raised where nobody catches it: in threads, in destructors, when this process ends."""
    threading.excepthook = lambda found: _report_ignored(
        found.exc_value, f"thread {found.thread.name if found.thread else 'unknown'} ended"
    )
    sys.unraisablehook = lambda found: _report_ignored(
        found.exc_value, f"{found.err_msg or 'an exception was ignored in'} {_name_of(found.object)}".strip()
    )
    sys.excepthook = _end_process


def _report_ignored(problem: BaseException | None, what: str) -> None:
    """One line on an exception that ends nothing."""
    if problem is None or isinstance(problem, SystemExit | KeyboardInterrupt):
        return
    with suppress(BaseException):
        _say(f"warning: {what}: {_describe(problem)}", problem)


def _end_process(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
    """Python ends this process with 1 where this returns, so it does not; what :mod:`atexit` holds is not run."""
    os._exit(report_defect(problem))


def _name_of(culprit: object) -> str:
    return str(getattr(culprit, "__qualname__", None) or type(culprit).__name__)


def _say(sentence: str, problem: BaseException) -> None:
    global _kept
    _kept += 1
    line = sentence
    if _kept <= MAX_FILES:
        text = _readable(f"{platform.platform()}, Python {platform.python_version()}\n{_traceback_of(problem)}")
        file = _keep(text)
        where = f"its traceback is in {file}" if file else f"{', '.join(FOLDERS)}: no room for its traceback:\n{text}"
        line = f"{sentence}; {where}"
    print(line, file=sys.stderr, flush=True)


def _describe(problem: BaseException) -> str:
    """``KeyError: 'x' (plan.py, line 12)``, on one line."""
    from bench.core.text import one_line
    from bench.host.secrets import mask_secrets

    shown = one_line(mask_secrets(str(problem)[: 8 * MAX_MESSAGE_LENGTH]), MAX_MESSAGE_LENGTH)
    last = traceback.extract_tb(problem.__traceback__)[-1:]
    place = f" ({Path(last[0].filename).name}, line {last[0].lineno})" if last else ""
    return one_line(f"{type(problem).__name__}{f': {shown}' if shown else ''}{place}")


def _readable(text: str) -> str:
    """Text that hides secrets and controls no terminal."""
    from bench.core.text import printable
    from bench.host.secrets import mask_secrets

    return printable(mask_secrets(text), keep="\n")


def _traceback_of(problem: BaseException) -> str:
    return "".join(traceback.format_exception(problem))


def _keep(text: str) -> Path | None:
    """Write a traceback to a new file that only this user can read; ``None`` where no folder takes it."""
    for folder in FOLDERS:
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(prefix=FILE_PREFIX, suffix=".txt", dir=folder)
            try:
                with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
                    file.write(text)
            except OSError:
                Path(name).unlink()
                raise
            return Path(name)
    return None
