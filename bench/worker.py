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
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import loop, registry
from bench.identity import Identity, identify
from bench.nursery import die_with_parent
from bench.records import Case, RankFailure, RankRecord, Value

TAIL_LINES = 12


def write(folder: Path, name: str, value: Value) -> None:
    """Write under a hidden name, then rename: whoever watches the folder never reads half a file."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(value.model_dump_json())
    partial.rename(folder / name)


def measure_rank(case: Case, me: Identity, failed: Callable[[RankFailure], None]) -> RankRecord:
    """Join the other ranks, measure, leave. ``failed`` is told of a failure while the others are still there."""
    began = time.monotonic()
    import torch

    torch.set_num_threads(case.threads)
    backend, workload = registry.load_backend(case.backend), registry.load_workload(case.workload)
    if case.device == "cuda":
        # TensorFloat-32 would make results depend on how a batch is cut, beyond what float32 rounding explains.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with backend.session(case, me) as session:
        try:
            return loop.measure(case, backend, workload, session, began)
        except Exception as problem:
            # Told before the session is left: leaving may wait for the others, and makes them fail too.
            failed(describe_failure("rank", me.rank, problem))
            raise


def describe_failure(role: str, rank: int, problem: BaseException) -> RankFailure:
    """The failure as a value: the exception's line and the end of its traceback."""
    lines = "".join(traceback.format_exception(problem)).rstrip().splitlines()
    said = traceback.format_exception_only(problem)[-1].strip()
    tail = tuple(lines[-TAIL_LINES:])
    return RankFailure(role=role, rank=rank, host=platform.node(), error=said, at=time.time(), tail=tail)


def _leave(out: Path) -> Callable[[RankFailure], None]:
    """Write the failure and end this process at once: its session may never let it go."""

    def leave(failure: RankFailure) -> None:
        write(out, f"failure-{failure.role}-{failure.rank}.json", failure)
        print("\n".join(failure.tail), file=sys.stderr, flush=True)
        os._exit(1)

    return leave


def run(case: Case, role: str, out: Path) -> int:
    """Play one role to its end; returns the exit status."""
    me = identify(os.environ)
    try:
        if role == "rank":
            write(out, f"record-{me.rank}.json", measure_rank(case, me, _leave(out)))
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
    die_with_parent()
    return run(Case.model_validate_json(chosen.case.read_text()), chosen.role, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
