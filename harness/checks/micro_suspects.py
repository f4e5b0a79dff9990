"""Ingested benchmarks judged; of the suite's own the suspects are run again in both trees until each is answered."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.checks.confirming import Confirmed, check_head, last_good_commit
from harness.checks.gathering_ingested import Ingested
from harness.checks.micro_pairs import MicroPair, interleave_micro
from harness.checks.suspicions import Confirmation, base_trouble, left_open, of_unchanged_code
from harness.micro import NAME
from harness.pairs.trees import checked_out, head_tree, short_commit
from harness.storage.ledger import Ledger
from reports.verdicts.members import Member, judged, settled
from reports.verdicts.rule import RULE


def judge_ingested(ingested: Ingested, confirmation: Confirmation, ledger: Ledger, folder: Path) -> Confirmed:
    """Benchmarks that are none of the suite's own stay suspect: nobody here can run them again.

    An answer that pairs gave earlier stands. Raises :class:`harness.errors.UsageError`.
    """
    members = _answered_before(judged(ingested.series, RULE), ingested, ledger)
    suspects = [member for member in members if member[2].status == "suspect"]
    if not suspects:
        return Confirmed(members)
    if confirmation.base_rev is None:
        base = last_good_commit(suspects, ingested.past, ingested.judged, max(RULE.windows) - 1)
    else:
        base = short_commit(confirmation.base_rev)
    if base is not None and base == ingested.commit:
        return Confirmed(of_unchanged_code(members, base), base)
    if not confirmation.wanted or not any(_can_be_run(subject.name) for subject, _, _ in suspects):
        return Confirmed(members, base)
    why_not = base_trouble(base, asked=confirmation.base_rev is not None)
    if base is None or why_not:
        return Confirmed(left_open(members, why_not))
    check_head(ingested.commit, changed=False)
    return _confirm(members, base, folder)


def _answered_before(members: Sequence[Member], ingested: Ingested, ledger: Ledger) -> list[Member]:
    """Verdicts of the same night that rest on pairs: these are not kept, and would be spent again."""
    stored = ledger.verdicts(ingested.tonight) if ingested.tonight else ()
    known = {verdict.name: verdict for verdict in stored if verdict.pairs_used}
    return [
        (subject, series, known.get(verdict.name, verdict) if verdict.status == "suspect" else verdict)
        for subject, series, verdict in members
    ]


def _confirm(members: Sequence[Member], base_rev: str, folder: Path) -> Confirmed:
    found: dict[str, list[MicroPair]] = defaultdict(list)
    trials = 0
    with checked_out(base_rev) as base:
        head = head_tree()
        while wanted := _wanted(members, found):
            first, count, names = wanted
            for pair in interleave_micro(names, head, base, folder, first, count):
                found[pair.benchmark].append(pair)
                trials += 2
            members = _again(members, found)
        return Confirmed(_without_pairs(members, found), base.commit, trials)


def _can_be_run(name: str) -> bool:
    return name.startswith(f"{NAME}::")


def _wanted(members: Sequence[Member], found: Mapping[str, Sequence[MicroPair]]) -> tuple[int, int, list[str]] | None:
    """First pair, number of pairs and benchmarks; ``None`` where no more are asked for, or they give none."""
    waiting = [
        (subject.name, verdict)
        for subject, _, verdict in members
        if verdict.status == "suspect" and _can_be_run(subject.name) and not _hopeless(found.get(subject.name, ()))
    ]
    if not waiting:
        return None
    tried = min(len(found.get(name, ())) for name, _ in waiting)
    now = [(name, verdict) for name, verdict in waiting if len(found.get(name, ())) == tried]
    return tried, max(verdict.pairs_wanted - verdict.pairs_used for _, verdict in now), [name for name, _ in now]


def _hopeless(pairs: Sequence[MicroPair]) -> bool:
    failed = sum(bool(pair.reason) for pair in pairs)
    return failed >= 2 and 2 * failed >= len(pairs)


def _again(members: Sequence[Member], found: Mapping[str, Sequence[MicroPair]]) -> list[Member]:
    """Judged anew with the pairs there are; what had its answer before keeps it."""
    series = [
        (subject, one.model_copy(update={"pairs": _logs(found.get(subject.name, ()))})) for subject, one, _ in members
    ]
    return [new if old[2].status == "suspect" else old for old, new in zip(members, judged(series, RULE), strict=True)]


def _without_pairs(members: Sequence[Member], found: Mapping[str, Sequence[MicroPair]]) -> list[Member]:
    failed = {name: next((pair.reason for pair in pairs if pair.reason), None) for name, pairs in found.items()}
    return [
        settled(one, "inconclusive", f"{why}; {one[2].reason}") if (why := failed.get(one[0].name)) else one
        for one in members
    ]


def _logs(pairs: Sequence[MicroPair]) -> tuple[float, ...]:
    return tuple(
        math.log(pair.head_s / pair.base_s) for pair in pairs if pair.head_s is not None and pair.base_s is not None
    )
