"""Runs a script as ``__main__`` in this process, as ``python script.py`` would."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from bench.host.logs import last_lines

_kept: list[ModuleType] = []


def run_script(script: Path, name: str | None = None) -> int:
    """Run a script to its end.

    Args:
        script: Its path, which is also the first of ``sys.argv``.
        name: The name of the module that it is run as (``python -m``); ``None``: it is a script.

    Returns:
        Its exit status.

    Raises:
        BaseException: What it raises, but for SystemExit.
    """
    module = ModuleType("__main__")
    # Kept until the process ends: exit handlers and pickles look for it.
    _kept.append(module)
    attributes = {"__file__": str(script), "__builtins__": builtins, "__cached__": None, "__annotations__": {}}
    module.__dict__.update(attributes)
    sys.modules["__main__"] = module
    try:
        if name is not None:
            module.__spec__ = importlib.util.find_spec(name if script.name != "__main__.py" else f"{name}.__main__")
            module.__package__ = module.__spec__.parent if module.__spec__ is not None else None
        exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), module.__dict__)
    except SystemExit as end:
        return exit_status(end)
    return 0


def exit_status(end: SystemExit) -> int:
    """What Python makes of the code of a SystemExit; text is printed, as Python does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    with suppress(Exception):  # a program may have closed it, or put another one in its place
        print(end.code, file=sys.stderr, flush=True)
    return 1


def last_output() -> str:
    """The last line that this process has printed, where its output is a file; else nothing."""
    for descriptor in (2, 1):
        log = Path(f"/proc/self/fd/{descriptor}")
        try:
            path = log.readlink()
        except OSError:
            continue
        if path.is_file():
            lines = [line for line in last_lines(path, 5) if line.strip()]
            if lines:
                return lines[-1]
    return ""
