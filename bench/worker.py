"""One process of a trial: case in, record out. The same entry point under every site.

    python -m bench.worker --case case.json --role rank --out FOLDER

A rank leaves ``record-<rank>.json`` in the folder; any role that fails leaves ``failure-<role>-<rank>.json``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench import loop, registry
from bench.identity import Identity, identify
from bench.records import Case, RankFailure, RankRecord, Value

TAIL_LINES = 12


def write(folder: Path, name: str, value: Value) -> None:
    """Write under a hidden name, then rename: whoever watches the folder never reads half a file."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(value.model_dump_json())
    partial.rename(folder / name)


def measure_rank(case: Case, me: Identity) -> RankRecord:
    """Join the other ranks, measure, leave."""
    began = time.monotonic()
    import torch

    torch.set_num_threads(case.threads)
    backend, workload = registry.load_backend(case.backend), registry.load_workload(case.workload)
    with backend.session(case, me) as session:
        try:
            return loop.measure(case, backend, workload, session, began)
        except Exception as problem:
            # Noted here: as this rank leaves the session, the others fail too, and one of them may be faster to say so.
            raise RankFailedError(describe_failure("rank", me.rank, problem)) from problem


class RankFailedError(Exception):
    """A rank failed while it had others to work with."""

    def __init__(self, failure: RankFailure) -> None:
        super().__init__(failure.error)
        self.failure = failure


def describe_failure(role: str, rank: int, problem: BaseException) -> RankFailure:
    """The failure as a value: the exception's line and the end of its traceback."""
    if isinstance(problem, RankFailedError):
        return problem.failure
    lines = "".join(traceback.format_exception(problem)).rstrip().splitlines()
    said = traceback.format_exception_only(problem)[-1].strip()
    tail = tuple(lines[-TAIL_LINES:])
    return RankFailure(role=role, rank=rank, host=platform.node(), error=said, at=time.time(), tail=tail)


def run(case: Case, role: str, out: Path) -> int:
    """Play one role to its end; returns the exit status."""
    me = identify(os.environ)
    try:
        if role == "rank":
            write(out, f"record-{me.rank}.json", measure_rank(case, me))
            return 0
        play = registry.load_backend(case.backend).role(role)
        if play is None:
            raise LookupError(f"backend {case.backend} has no role '{role}'")
        play(case, me, out)
        return 0
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException as problem:
        traceback.print_exc()
        write(out, f"failure-{role}-{me.rank}.json", describe_failure(role, me.rank, problem))
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=Path, required=True, help="file with the case as JSON")
    parser.add_argument("--role", default="rank", help="what this process is (default: rank)")
    parser.add_argument("--out", type=Path, required=True, help="existing folder for the record")
    chosen = parser.parse_args(arguments)
    return run(Case.model_validate_json(chosen.case.read_text()), chosen.role, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
