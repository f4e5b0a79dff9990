"""A subject with its nights and its verdict: what checks hand from one to the next."""

from __future__ import annotations

from collections.abc import Sequence

from reports.verdicts.judge import judge
from reports.verdicts.rule import Rule
from reports.verdicts.subjects import Subject
from reports.verdicts.values import MetricSeries, Status, Verdict

JudgedSeries = tuple[Subject, MetricSeries, Verdict]


def judge_series(
    series: Sequence[tuple[Subject, MetricSeries]], rule: Rule, *, by_pairs_only: bool = False
) -> list[JudgedSeries]:
    """Each with its verdict."""
    verdicts = judge([one for _, one in series], rule, by_pairs_only=by_pairs_only)
    return [(subject, one, verdict) for (subject, one), verdict in zip(series, verdicts, strict=True)]


def resolve_suspect(member: JudgedSeries, status: Status, reason: str) -> JudgedSeries:
    """A suspect that gets no pairs, or no more of them, with what is said of it instead; others as they are."""
    subject, series, verdict = member
    if verdict.status != "suspect":
        return member
    return subject, series, verdict.model_copy(update={"status": status, "pairs_wanted": 0, "reason": reason})
