"""What the verdicts of one curve say together: a slowdown, a loss of scaling, more memory; not a list of numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from reports.verdicts import words
from reports.verdicts.shape import SHAPE
from reports.verdicts.subjects import Subject
from reports.verdicts.values import WORST_FIRST, Finding, FindingKind, Metric, Status, Verdict

SPEED = ("step", "throughput")
MORE: dict[Metric, FindingKind] = {"memory": "more memory", "energy": "more energy"}
CHANGES: tuple[Status, ...] = ("regressed", "suspect", "improved", "inconclusive")

Member = tuple[Subject, Verdict]


def findings_of(judged: Sequence[Member]) -> tuple[Finding, ...]:
    """The worst first, then the largest change; plain passes make none."""
    curves: dict[str, list[Member]] = defaultdict(list)
    for subject, verdict in judged:
        curves[subject.curve].append((subject, verdict))
    found = [one for curve, members in curves.items() for one in _of_curve(curve, members)]
    return tuple(sorted(found, key=lambda one: (WORST_FIRST.index(one.status), -abs(one.change_pct or 0), one.curve)))


def _of_curve(curve: str, members: Sequence[Member]) -> list[Finding]:
    found = []
    for status in WORST_FIRST:
        here = [(subject, verdict) for subject, verdict in members if verdict.status == status]
        if not here or status == "pass":
            continue
        if status not in CHANGES:
            found += _plain(curve, status, here)
            continue
        speed = [one for one in here if one[0].metric in (*SPEED, *SHAPE)]
        if speed:
            found.append(_speed(curve, status, speed, members))
        for metric, kind in MORE.items():
            of_it = [one for one in here if one[0].metric == metric]
            if of_it:
                found.append(_finding(curve, "other" if status == "improved" else kind, status, of_it, _largest(of_it)))
    return found


def _plain(curve: str, status: Status, members: Sequence[Member]) -> list[Finding]:
    """Failed, missing, new, incomparable: one finding for each reason."""
    reasons: dict[str, list[Member]] = defaultdict(list)
    for one in members:
        reasons[one[1].reason].append(one)
    return [
        Finding(
            curve=curve, kind="other", status=status, ranks=_ranks(of_it), said=f"{_where(of_it)}: {reason}",
            verdicts=tuple(verdict.name for _, verdict in of_it),
        )
        for reason, of_it in reasons.items()
    ]  # fmt: skip


def _speed(curve: str, status: Status, here: Sequence[Member], members: Sequence[Member]) -> Finding:
    """One finding of all that got slower (or faster) on a curve."""
    speed = [one for one in here if one[0].metric in SPEED]
    if status == "improved":
        return _finding(curve, "faster", status, here, _largest(speed or here))
    if _only_with_more_ranks(speed, here, members):
        shape = [one for one in here if one[0].metric == "efficiency"]
        return _finding(curve, "lost scaling", status, here, _largest(shape or speed or here))
    return _finding(curve, "slower", status, here, _largest(speed or here))


def _only_with_more_ranks(speed: Sequence[Member], here: Sequence[Member], members: Sequence[Member]) -> bool:
    """Whether the fewest ranks are as fast as before, or at least clearly less slowed than the rest."""
    least = min((subject.ranks for subject, _ in members), default=1)
    if any(subject.ranks == least for subject, _ in speed):
        return False
    if not speed or any(subject.metric in SHAPE for subject, _ in here):
        return True
    alone = [verdict for subject, verdict in members if subject.ranks == least and subject.metric == "step"]
    slowed = [verdict for subject, verdict in speed if subject.metric == "step"] or [verdict for _, verdict in speed]
    highest = max((verdict.high_pct for verdict in alone if verdict.high_pct is not None), default=None)
    lowest = min((_slower_at_least(verdict) for verdict in slowed), default=None)
    return bool(alone) and highest is not None and lowest is not None and lowest > highest


def _slower_at_least(verdict: Verdict) -> float:
    ends = [abs(end) for end in (verdict.low_pct, verdict.high_pct) if end is not None]
    return min(ends, default=0.0)


def _finding(curve: str, kind: FindingKind, status: Status, of_it: Sequence[Member], leading: Member) -> Finding:
    verdict = leading[1]
    said = words.sentence(verdict)
    others = [ranks for ranks in _ranks(of_it) if ranks != leading[0].ranks]
    where = f", and at {', '.join(map(str, others))} too" if others else ""
    why = f"; {verdict.reason}" if verdict.reason and verdict.reason not in said else ""
    scaling = "; fewer ranks are as fast as before" if kind == "lost scaling" and leading[0].ranks > 1 else ""
    return Finding(
        curve=curve, kind=kind, status=status, ranks=_ranks(of_it), change_pct=verdict.change_pct,
        low_pct=verdict.low_pct, high_pct=verdict.high_pct, said=f"{said}{where}{scaling}{why}",
        verdicts=tuple(dict.fromkeys(one.name for _, one in of_it)),
    )  # fmt: skip


def _largest(members: Sequence[Member]) -> Member:
    return max(members, key=lambda one: abs(one[1].change_pct or 0))


def _ranks(members: Sequence[Member]) -> tuple[int, ...]:
    return tuple(sorted({subject.ranks for subject, _ in members if subject.ranks}))


def _where(members: Sequence[Member]) -> str:
    names = dict.fromkeys(words.split_name(words.name_line(verdict.name))[0] for _, verdict in members)
    counts = _ranks(members)
    at = f" at {', '.join(map(str, counts))} rank{'s' * (counts != (1,))}" if "/ranks=" in members[0][1].name else ""
    return f"{', '.join(names)}{at}"
