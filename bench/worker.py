"""One process of a trial: case in, record out. The same entry point under every site.

    python -m bench.worker --case case.json --role rank --out FOLDER

A rank leaves ``record-<rank>.json`` in the folder; any role that fails leaves ``failure-<role>-<rank>.json``.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from bench import faults, loop, registry, sampler
from bench.affinity import cores_for, pin, usable_cores
from bench.case import Case
from bench.identity import Identity, identify
from bench.nursery import die_with_parent
from bench.progress import Progress
from bench.records import RankFailure, RankRecord, Value
from bench.usage import forget_memory_peak

TAIL_LINES = 12


def write(folder: Path, name: str, value: Value) -> None:
    """Write under a hidden name, then rename: whoever watches the folder never reads half a file."""
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(value.model_dump_json())
    partial.rename(folder / name)


def measure_rank(case: Case, me: Identity, out: Path, failed: Callable[[RankFailure], None]) -> RankRecord:
    """Join the other ranks, measure, leave. ``failed`` is told of a failure while the others are still there."""
    around = _settle_in(case, me, out)
    import torch

    torch.set_num_threads(case.threads)
    backend, workload = registry.load_backend(case.backend), registry.load_workload(case.workload)
    if case.device == "cuda":
        # TensorFloat-32 would make results depend on how a batch is cut, beyond what float32 rounding explains.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    faults.at_start(case.fault, me.rank)
    with backend.session(case, me) as session:
        try:
            return loop.measure(case, backend, workload, session, around)
        except Exception as problem:
            # Told before the session is left: leaving may wait for the others, and makes them fail too.
            failed(describe_failure("rank", me.rank, problem, around.progress.whereabouts.said))
            raise


def _settle_in(case: Case, me: Identity, out: Path) -> loop.Surroundings:
    began_s = time.monotonic()
    forget_memory_peak()
    cores = usable_cores()
    # A rank with a GPU needs cores for more than its own thread: those are left to the system.
    if case.affinity == "cores" and case.device == "cpu" and cores:
        cores = cores_for(me.local_rank, case.threads, cores)
        pin(cores)
    # One rank a node holds the sampler still while it measures what sampling costs.
    silence = partial(sampler.silence, out) if me.local_rank == 0 else nullcontext
    return loop.Surroundings(began_s, cores, Progress(out, me.rank), silence)


def describe_failure(role: str, rank: int, problem: BaseException, where: str = "") -> RankFailure:
    """The failure as a value: the exception's line, the end of its traceback, the step it was in."""
    lines = "".join(traceback.format_exception(problem)).rstrip().splitlines()
    said = traceback.format_exception_only(problem)[-1].strip()
    tail = tuple(lines[-TAIL_LINES:])
    return RankFailure(role=role, rank=rank, host=platform.node(), error=said, at=time.time(), tail=tail, where=where)


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
            write(out, f"record-{me.rank}.json", measure_rank(case, me, out, _leave(out)))
            return 0
        if role == sampler.ROLE.name:
            sampler.play(case, out)
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
    # On a timeout the harness asks for the stacks of all threads before it ends the process.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    return run(Case.model_validate_json(chosen.case.read_text()), chosen.role, chosen.out)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks leave threads behind whose end may hang or abort; all that counts is on disk by now.
    os._exit(status)
