"""What the processes of a trial left behind: who failed first, where each rank was, what it said."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.progress import Whereabouts, read_progress
from bench.records import Outcome, RankFailure, RankRecord
from bench.scene import MPIRUN, Gone, Scene
from bench.telemetry import Recording, read_recording
from harness.sites import Ending

Kind = TypeVar("Kind", RankRecord, RankFailure)

TAIL_LINES = 20
STACK_LINES = 120

# How mpirun (Open MPI 5) names the rank that it lost.
MPI_SIGNALLED = re.compile(r"process rank (\d+)\b.*?exited on\s+signal (\d+)", re.DOTALL)
MPI_STATUS = re.compile(r"Process name: \[[^\]]*,(\d+)\]\s+Exit code:\s+(\d+)")


HOLDERS = ("rank", "worker")
"""Roles whose processes hold the rank of their own number: Dask's workers do."""


@dataclass(frozen=True)
class Lost:
    """A node that went without a word, and what is known of why."""

    node: int
    name: str
    why: str

    @property
    def title(self) -> str:
        return f"node {self.node} ({self.name})"


def collect(folder: Path, scene: Scene, lost: Sequence[Lost] = (), ranks_on_a_node: int = 1) -> Ending:
    """Read what is in the trial's folder and say how it ended."""
    records = sorted(_read(folder, "record-*.json", RankRecord), key=lambda record: record.rank)
    seen = read_progress(folder)
    failures = tuple(
        _placed(failure, seen) for failure in sorted(_read(folder, "failure-*.json", RankFailure), key=lambda f: f.at)
    )
    outcome, reason = judge(scene, failures, seen)
    if lost:
        outcome, reason = "failed", where_it_was(lost[0], seen, ranks_on_a_node)
    tail: list[str] = []
    if outcome != "ok":
        for gone in scene.gone[:2]:
            tail += _headed(gone.title, last_lines(gone.log, TAIL_LINES))
        for title, lines in scene.stacks.items():
            tail += _headed(title, lines[:STACK_LINES])
    return Ending(outcome, reason, tuple(records), failures, tuple(tail), recordings_in(folder))


def judge(scene: Scene, failures: Sequence[RankFailure], seen: Sequence[Whereabouts]) -> tuple[Outcome, str | None]:
    """Outcome and reason (pure but for the log of mpirun): who was first, and in which step."""
    if scene.timed_out:
        return "timeout", f"not done within {scene.timeout_s:g} s: {where_all_were(seen, scene.stopped)}"
    killed = next((gone for gone in scene.gone if gone.status == -signal.SIGKILL), None)
    if killed is not None:
        why = " (the kernel ran out of memory)" if scene.out_of_memory else ""
        return "failed", _with_place(killed, seen) + why
    said = {(failure.role, failure.rank) for failure in failures}
    first = scene.gone[0] if scene.gone else None
    # Who left without a word was not told why by the others; they fail because it is gone.
    if failures and (first is None or first.role not in HOLDERS or ("rank", first.number) in said):
        cause = failures[0]
        where = f" ({cause.where})" if cause.where else ""
        return "failed", f"{cause.role} {cause.rank}: {cause.error}{where}"
    if first is None:
        return "ok", None
    lost = _lost_by_mpirun(first) if first.role == MPIRUN else None
    return "failed", f"{_with_place(lost or first, seen)}; see the log's last lines"


def where_it_was(lost: Lost, seen: Sequence[Whereabouts], ranks_on_a_node: int) -> str:
    """``node 2 (n3) is gone: Slurm says NODE_FAIL; rank 2 was last seen in measured step 17``."""
    there = [one for one in seen if one.rank // ranks_on_a_node == lost.node]
    said = f"; last seen: {where_all_were(there)}" if there else ""
    return f"{lost.title} is gone: {lost.why}{said}"


def where_all_were(seen: Sequence[Whereabouts], stopped: Sequence[str] = ()) -> str:
    """``rank 0 in measured step 17, rank 1 in measured step 17 (stopped)``."""
    if not seen:
        return "no rank had begun"
    halted = {int(title.split()[-1]) for title in stopped if title.split()[0] in HOLDERS}
    return ", ".join(f"rank {one.rank} {one.said}{' (stopped)' if one.rank in halted else ''}" for one in seen)


def _with_place(gone: Gone, seen: Sequence[Whereabouts]) -> str:
    if gone.status is None:
        how = "ended without a word"
    elif gone.status < 0:
        how = f"was killed by {signal.Signals(-gone.status).name}"
    else:
        how = f"ended with status {gone.status} and no word"
    where = next((one.said for one in seen if one.rank == gone.number and gone.role in HOLDERS), None)
    if where is None:
        return f"{gone.title} {how}"
    place = where if gone.role == "rank" else f"with rank {gone.number} {where}"
    return f"{gone.title} {how} {place}"


def _lost_by_mpirun(gone: Gone) -> Gone | None:
    """The rank that mpirun says it lost."""
    text = "\n".join(last_lines(gone.log, STACK_LINES))
    if signalled := MPI_SIGNALLED.search(text):
        return Gone("rank", int(signalled[1]), -int(signalled[2]), gone.log)
    if ended := MPI_STATUS.search(text):
        return Gone("rank", int(ended[1]), int(ended[2]), gone.log)
    return None


def _placed(failure: RankFailure, seen: Sequence[Whereabouts]) -> RankFailure:
    if failure.where or failure.role != "rank":
        return failure
    where = next((one.said for one in seen if one.rank == failure.rank), "")
    return failure.model_copy(update={"where": where})


def recordings_in(folder: Path) -> tuple[Recording, ...]:
    """What the samplers wrote; a recording that can't be read is left out."""
    found = []
    for path in sorted(folder.glob("telemetry-*.jsonl")):
        with contextlib.suppress(OSError, ValueError), path.open() as lines:
            found.append(read_recording(lines))
    return tuple(found)


def last_lines(log: Path, count: int) -> list[str]:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-count:]
    return []


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}: {line}" for line in lines]


def _read(folder: Path, pattern: str, kind: type[Kind]) -> list[Kind]:
    return [kind.model_validate_json(path.read_text()) for path in folder.glob(pattern)]
