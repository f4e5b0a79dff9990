"""Runs a program by the ranks' own worker process, each rank in a process of its own, as a site would."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from bench.core.case import Case
from bench.core.program import Program
from bench.core.records import RankFailure, RankRecord
from bench.host.network import free_port
from bench.node.program_copy import write_program_copy
from tests.support.paths import ROOT

SUBSTITUTE_TORCH = ROOT / "tests" / "support" / "substitute_torch"


@dataclass
class EndedRank:
    """A rank whose process has ended."""

    status: int
    record: RankRecord | None
    failure: RankFailure | None
    output: str
    took_s: float

    @property
    def error(self) -> str:
        assert self.failure is not None, self.output
        return self.failure.error


def program_case(text: str, folder: Path, ranks: int = 1, arguments: str = "", **changes) -> Case:
    """A case of a program of that text."""
    options = {"command": f"train.py {arguments}".strip(), **changes.pop("options", {})}
    text = textwrap.dedent(text)
    program = Program(
        script="train.py", folder=str(folder), working_directory=str(folder), digest="0", files={"train.py": text}
    )
    backend = "torchrun" if ranks > 1 else "plain"
    base = {"workload": "script", "workload_options": options, "backend": backend, "transport": "own", "batch": 1}
    return Case(**{**base, "ranks": ranks, "window_s": 0.05, "decompose": False, "program": program, **changes})


def run_ranks(case: Case, out: Path, *, substitute: bool = True, limit_s: float = 60.0) -> list[EndedRank]:
    """Run all ranks of a case on this machine to their end.

    Args:
        case: A case with a program.
        out: An empty folder: the trial's.
        substitute: Whether torch is the substitute, which imports in no time.
        limit_s: How long that may take.
    """
    assert case.program is not None
    for node in range(case.nodes):
        write_program_copy(case.program, out, node)
    port = str(free_port("127.0.0.1"))
    (out / "case.json").write_text(case.model_dump_json())
    paths = [str(ROOT), *([str(SUBSTITUTE_TORCH)] if substitute else [])]
    began, processes = time.monotonic(), []
    for rank in range(case.ranks):
        numbers = {"RANK": rank, "WORLD_SIZE": case.ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": case.ranks}
        env = {**os.environ, **{name: str(value) for name, value in numbers.items()}}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-m", "bench.rank.worker", "--case", str(out / "case.json"), "--out", str(out)]
        with (out / f"rank-{rank}.log").open("ab") as log:
            processes.append(
                subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT)
            )
    try:
        statuses = [process.wait(limit_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [_read(out, rank, status, time.monotonic() - began) for rank, status in enumerate(statuses)]


def _read(out: Path, rank: int, status: int, took_s: float) -> EndedRank:
    record, failure = out / f"record-{rank}.json", out / f"failure-rank-{rank}.json"
    return EndedRank(
        status,
        RankRecord.model_validate_json(record.read_text()) if record.exists() else None,
        RankFailure.model_validate_json(failure.read_text()) if failure.exists() else None,
        (out / f"rank-{rank}.log").read_text(errors="replace"),
        took_s,
    )
