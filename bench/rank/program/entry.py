"""Makes this process what ``python script.py arguments`` would be: working directory, arguments, import path."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from bench.core.case import Case
from bench.core.program import copy_folder_name
from bench.rank.program.options import command_words


def enter_program(case: Case, out: Path, rank: int) -> Path:
    """Prepare this process for the program of a case.

    Args:
        case: A case with a program.
        out: The trial's folder, which holds the copy of the program's folder.
        rank: The number of this rank.

    Returns:
        The script to run.
    """
    assert case.program is not None
    copy = out.resolve() / copy_folder_name(case.node_of_rank(rank))
    script = copy / case.program.script
    with suppress(OSError):
        os.chdir(copy)
        os.chdir(case.program.working_directory)
    sys.argv[:] = [str(script), *command_words(case)[1:]]
    if not sys.flags.safe_path:
        # Of ``python -m``: the folder in which the process happened to be started.
        del sys.path[0]
    sys.path.insert(0, str(script.parent))
    # This project's own processes have it; those that the program starts find modules as Python does.
    os.environ.pop("PYTHONSAFEPATH", None)
    return script
