"""Where a program shows the progress of a command that it runs: on standard error, or in the cell of a notebook."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

TRIAL_ENDED = re.compile(r"\d+/\d+ ")
"""Begins the line of a trial; see :class:`harness.sweep.progress.TrialProgress`."""


def shower(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    """What takes the lines of a command.

    Args:
        progress: ``True``: shown here; ``False``: not shown; or a function that takes each line.
    """
    if callable(progress):
        return progress
    if not progress:
        return lambda line: None
    return NotebookProgress() if _in_notebook() else _print


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """Shows the last trial in one place of the cell; other lines, such as warnings, below each other."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, line: str) -> None:
        if not TRIAL_ENDED.match(line):
            _print(line)
            return
        from IPython.display import display

        shown = {"text/plain": line}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
