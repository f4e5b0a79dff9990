"""Where a user's program is, by the stacks of its process: a rank that hangs and those that wait for it are in the same
step."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.core.program import copy_folder_name

COPY = re.escape(copy_folder_name(0)).removesuffix("0")
PROGRAM_FRAME = re.compile(rf'File ".*/{COPY}\d+/([^"]+)", line (\d+) in ')
FRAME = re.compile(r'File "[^"]*", line \d+ in (\S+)')
RUNS_PROGRAM = "in run_script"
"""In the stack of the thread that runs a user's program."""


def program_place(stack: Sequence[str]) -> str | None:
    """Where a user's program is, by the stacks of its process: ``at train.py:17, in all_reduce``; ``None`` where it is
    no program, or in none of its own lines (pure)."""
    threads: list[list[str]] = [[]]
    for line in stack:
        threads.append([]) if "(most recent call first)" in line else threads[-1].append(line)
    for lines in threads:
        own = next((number for number, line in enumerate(lines) if PROGRAM_FRAME.search(line)), None)
        if own is None or not any(RUNS_PROGRAM in line for line in lines):
            continue
        found, innermost = PROGRAM_FRAME.search(lines[own]), FRAME.search(lines[0])
        assert found is not None
        calls = f", in {innermost[1]}" if own and innermost else ""
        return f"at {found[1]}:{found[2]}{calls}"
    return None
