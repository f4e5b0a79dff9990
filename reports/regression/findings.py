"""Findings: the verdicts of one curve combined to a slowdown, a loss of scaling, or more memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from reports.analysis.label_order import natural_key
from reports.regression import wording
from reports.regression.ratios import SCALING_METRICS
from reports.regression.subjects import Subject
from reports.regression.values import WORST_FIRST, Finding, FindingKind, Metric, Status, Verdict

SPEED_METRICS = ("step", "throughput")
RESOURCE_KINDS: dict[Metric, FindingKind] = {"memory": "more memory", "energy": "more energy"}
CHANGE_STATUSES: tuple[Status, ...] = ("regressed", "suspect", "improved", "inconclusive")

SubjectVerdict = tuple[Subject, Verdict]


def findings_of(judged: Sequence[SubjectVerdict]) -> tuple[Finding, ...]:
    """Findings of all curves, the worst first, then the largest change. Series that pass give none."""
    curves: dict[tuple[str, str], list[SubjectVerdict]] = defaultdict(list)
    for subject, verdict in judged:
        curves[subject.curve, subject.place].append((subject, verdict))
    findings = [
        finding.model_copy(update={"place": place})
        for (curve, place), members in curves.items()
        for finding in _of_curve(curve, members)
    ]
    return tuple(
        sorted(
            findings,
            key=lambda finding: (
                WORST_FIRST.index(finding.status),
                -abs(finding.change_pct or 0),
                natural_key(finding.curve),
            ),
        )
    )


def _of_curve(curve: str, members: Sequence[SubjectVerdict]) -> list[Finding]:
    findings = []
    for status in WORST_FIRST:
        matching = [(subject, verdict) for subject, verdict in members if verdict.status == status]
        if not matching or status == "pass":
            continue
        if status not in CHANGE_STATUSES:
            findings += _by_reason(curve, status, matching)
            continue
        speed = [member for member in matching if member[0].metric in (*SPEED_METRICS, *SCALING_METRICS)]
        if speed:
            findings.append(_speed_finding(curve, status, speed, members))
        for metric, kind in RESOURCE_KINDS.items():
            group = [member for member in matching if member[0].metric == metric]
            if group:
                findings.append(
                    _finding(curve, "other" if status == "improved" else kind, status, group, _largest_change(group))
                )
    return findings


def _by_reason(curve: str, status: Status, members: Sequence[SubjectVerdict]) -> list[Finding]:
    """Failed, missing, new or incomparable series: one finding for each reason."""
    reasons: dict[str, list[SubjectVerdict]] = defaultdict(list)
    for member in members:
        reasons[member[1].reason].append(member)
    return [
        Finding(
            curve=curve,
            kind="other",
            status=status,
            ranks=_ranks(group),
            said=f"{_location(group)}: {reason}",
            verdicts=tuple(verdict.name for _, verdict in group),
        )
        for reason, group in reasons.items()
    ]


def _speed_finding(
    curve: str, status: Status, matching: Sequence[SubjectVerdict], members: Sequence[SubjectVerdict]
) -> Finding:
    """One finding for all that got slower (or faster) on a curve."""
    speed = [member for member in matching if member[0].metric in SPEED_METRICS]
    if status == "improved":
        return _finding(curve, "faster", status, matching, _largest_change(speed or matching))
    if _only_with_more_ranks(speed, matching, members):
        shape = [member for member in matching if member[0].metric == "efficiency"]
        return _finding(curve, "lost scaling", status, matching, _largest_change(shape or speed or matching))
    return _finding(curve, "slower", status, matching, _largest_change(speed or matching))


def _only_with_more_ranks(
    speed: Sequence[SubjectVerdict], matching: Sequence[SubjectVerdict], members: Sequence[SubjectVerdict]
) -> bool:
    """Whether the fewest ranks are as fast as before, or at least slowed clearly less than the others."""
    fewest_ranks = min((subject.ranks for subject, _ in members), default=1)
    if any(subject.ranks == fewest_ranks for subject, _ in speed):
        return False
    if not speed or any(subject.metric in SCALING_METRICS for subject, _ in matching):
        return True
    fewest_ranks_verdicts = [
        verdict for subject, verdict in members if subject.ranks == fewest_ranks and subject.metric == "step"
    ]
    slowed_verdicts = [verdict for subject, verdict in speed if subject.metric == "step"] or [
        verdict for _, verdict in speed
    ]
    highest = max((verdict.high_pct for verdict in fewest_ranks_verdicts if verdict.high_pct is not None), default=None)
    lowest = min((_min_slowdown(verdict) for verdict in slowed_verdicts), default=None)
    return bool(fewest_ranks_verdicts) and highest is not None and lowest is not None and lowest > highest


def _min_slowdown(verdict: Verdict) -> float:
    ends = [abs(end) for end in (verdict.low_pct, verdict.high_pct) if end is not None]
    return min(ends, default=0.0)


def _finding(
    curve: str, kind: FindingKind, status: Status, group: Sequence[SubjectVerdict], leading: SubjectVerdict
) -> Finding:
    verdict = leading[1]
    sentence = wording.sentence(verdict)
    others = [ranks for ranks in _ranks(group) if ranks != leading[0].ranks]
    where = f", and at {', '.join(map(str, others))} too" if others else ""
    why = f"; {verdict.reason}" if verdict.reason and verdict.reason not in sentence else ""
    scaling = "; fewer ranks are as fast as before" if kind == "lost scaling" and leading[0].ranks > 1 else ""
    return Finding(
        curve=curve,
        kind=kind,
        status=status,
        ranks=_ranks(group),
        change_pct=verdict.change_pct,
        low_pct=verdict.low_pct,
        high_pct=verdict.high_pct,
        said=f"{sentence}{where}{scaling}{why}",
        verdicts=tuple(dict.fromkeys(verdict.name for _, verdict in group)),
    )


def _largest_change(members: Sequence[SubjectVerdict]) -> SubjectVerdict:
    return max(members, key=lambda member: abs(member[1].change_pct or 0))


def _ranks(members: Sequence[SubjectVerdict]) -> tuple[int, ...]:
    return tuple(sorted({subject.ranks for subject, _ in members if subject.ranks}))


def _location(members: Sequence[SubjectVerdict]) -> str:
    names = dict.fromkeys(wording.split_name(wording.display_name(verdict.name))[0] for _, verdict in members)
    counts = _ranks(members)
    noun = "rank" if counts == (1,) else "ranks"
    at = f" at {', '.join(map(str, counts))} {noun}" if "/ranks=" in members[0][1].name else ""
    return f"{', '.join(names)}{at}"
