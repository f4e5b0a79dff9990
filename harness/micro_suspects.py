"""Confirming suspects among the micro-benchmarks: the suite's file in both trees, in turn, until each is answered."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.confirming import Confirmed, Member
from harness.micro import NAME
from harness.micro_pairs import MicroPair, interleave_micro
from harness.trees import checked_out, head_tree
from reports.verdicts.judge import judge
from reports.verdicts.rule import RULE


def confirm_micro(members: Sequence[Member], base_rev: str | None, folder: Path) -> Confirmed:
    """``members``: of ingested benchmarks. Those that are none of the suite's own stay suspect: nobody here can run
    them again. Raises :class:`harness.errors.UsageError`."""
    suspects = [subject.name for subject, _, verdict in members if _can_be_run(subject.name) and verdict.pairs_wanted]
    if not suspects or base_rev is None:
        return Confirmed(members)
    found: dict[str, list[MicroPair]] = defaultdict(list)
    trials = 0
    with checked_out(base_rev) as base:
        head = head_tree()
        # Where both are the same code, nothing of it can have slowed them.
        while base.commit != head.commit and (wanted := _wanted(members)):
            first, count, names = wanted
            for pair in interleave_micro(names, head, base, folder, first, count):
                found[pair.benchmark].append(pair)
            trials += 2 * count
            members = _again(members, found)
        return Confirmed(members, base.commit, trials)


def _can_be_run(name: str) -> bool:
    return name.startswith(f"{NAME}::")


def _wanted(members: Sequence[Member]) -> tuple[int, int, list[str]] | None:
    """First pair, number of pairs and benchmarks; ``None`` where no more are asked for."""
    waiting = [
        (subject.name, verdict)
        for subject, _, verdict in members
        if verdict.status == "suspect" and _can_be_run(subject.name)
    ]
    if not waiting:
        return None
    used = min(verdict.pairs_used for _, verdict in waiting)
    now = [(name, verdict) for name, verdict in waiting if verdict.pairs_used == used]
    return used, max(verdict.pairs_wanted for _, verdict in now) - used, [name for name, _ in now]


def _again(members: Sequence[Member], found: Mapping[str, Sequence[MicroPair]]) -> list[Member]:
    """Judged anew with the pairs there are; inconclusive where one gave no number."""
    series = [one.model_copy(update={"pairs": _logs(found.get(subject.name, ()))}) for subject, one, _ in members]
    again = []
    for (subject, _, _), one, verdict in zip(members, series, judge(series, RULE), strict=True):
        failed = next((pair.reason for pair in found.get(subject.name, ()) if pair.reason), None)
        if verdict.status == "suspect" and failed is not None:
            said = {"status": "inconclusive", "pairs_wanted": 0, "reason": f"{failed}; {verdict.reason}"}
            verdict = verdict.model_copy(update=said)
        again.append((subject, one, verdict))
    return again


def _logs(pairs: Sequence[MicroPair]) -> tuple[float, ...]:
    return tuple(
        math.log(pair.head_s / pair.base_s) for pair in pairs if pair.head_s is not None and pair.base_s is not None
    )
