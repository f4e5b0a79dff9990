"""Runs a user's program in this process as one rank, and measures it without its help."""

from __future__ import annotations

import runpy
from pathlib import Path

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.core.records import RankRecord
from bench.rank.context import RankContext
from bench.rank.program.entry import enter_program


def measure_program(case: Case, me: RankInfo, out: Path, context: RankContext) -> RankRecord:
    """Run the program of a case as this rank.

    Args:
        case: A case with a program.
        me: The rank of this process.
        out: The trial's folder.
        context: What is known of the process.
    """
    script = enter_program(case, out, me.rank)
    runpy.run_path(str(script), run_name="__main__")
    raise RuntimeError("the program ended; it is not measured yet")
