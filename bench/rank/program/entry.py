"""Makes this process what ``python script.py`` or ``python -m module`` would be: its folder, arguments, import path."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from bench.core.case import Case
from bench.core.program import copy_folder_name
from bench.rank.program.options import command_words

COPY_LIMIT_S = 60.0
"""How long the agent of a node may take to write the copy, where another program starts the ranks meanwhile."""
POLL_INTERVAL_S = 0.02


def enter_program(case: Case, out: Path, rank: int) -> Path:
    """Prepare this process for the program of a case.

    Args:
        case: A case with a program.
        out: The trial's folder, which holds the copy of the program's folder.
        rank: The number of this rank.

    Returns:
        The script to run.

    Raises:
        RuntimeError: There is no such copy.
    """
    assert case.program is not None
    copy = out.resolve() / copy_folder_name(case.node_of_rank(rank))
    script = copy / case.program.script
    _wait_for(copy)
    with suppress(OSError):
        os.chdir(copy)
        os.chdir(case.program.working_directory)
    arguments = command_words(case)[1 if case.program.module is None else 2 :]
    sys.argv[:] = [str(script), *arguments]
    if not sys.flags.safe_path:
        # Of ``python -m``: the folder in which the process happened to be started.
        del sys.path[0]
    sys.path.insert(0, str(script.parent if case.program.module is None else copy))
    # This project's own processes have it; those that the program starts find modules as Python does.
    os.environ.pop("PYTHONSAFEPATH", None)
    return script


def _wait_for(copy: Path) -> None:
    deadline = time.monotonic() + COPY_LIMIT_S
    while not copy.is_dir():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no agent has written the program's files to {copy} within {COPY_LIMIT_S:g} s")
        time.sleep(POLL_INTERVAL_S)
