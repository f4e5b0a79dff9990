"""A command that ends, with all that it starts, when the process that started it does, however that ended.

A small program waits for the command as its guardian (:mod:`bench.node.guardian`), and has its exit status.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
"""The folder of this package: the environment of the command need not name it."""


def guarded(command: Sequence[str]) -> list[str]:
    """The words that run a command under a guardian, as a child of this process; the command's own where psutil, which
    the guardian needs, is not installed."""
    if importlib.util.find_spec("psutil") is None:
        return list(command)
    program = f"import sys; sys.path.insert(0, {str(CODE)!r}); from {__name__} import main; main()"
    return [sys.executable, "-P", "-c", program, str(os.getpid()), *command]


def main() -> None:
    """Continue as the command that the arguments name after the process id of the parent."""
    from bench.node.guardian import continue_under_guardian

    parent, *command = sys.argv[1:]
    continue_under_guardian(int(parent))
    try:
        os.execvp(command[0], command)
    except OSError as problem:
        sys.exit(f"{command[0]}: {problem.strerror}")
