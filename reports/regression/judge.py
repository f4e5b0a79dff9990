"""Series in, verdicts out: screen all of them, confirm the suspects by the pairs there are, say the answer.

A subject with its nights and its verdict: what checks hand from one to the next.

A curve's shape can get worse by good news: where fewer ranks got faster, more ranks scale less and lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from reports.regression.paired_test import Decision, confirm
from reports.regression.rule import RULE, Rule
from reports.regression.screen import ScreenedChange, ScreenResult, arrays_of, screen
from reports.regression.subjects import Subject
from reports.regression.values import SHARE_METRICS, Metric, MetricSeries, Status, Verdict

NIGHTS_KEPT = 60
"""More of a history changes nothing in what the screen says."""
Z_95 = 1.96


def judge(series: Sequence[MetricSeries], rule: Rule = RULE, *, by_pairs_only: bool = False) -> tuple[Verdict, ...]:
    """One verdict a series, in the order given.

    Series of one metric are judged together: how noisy one is, is partly learnt from the others. With
    ``by_pairs_only`` every series is confirmed as if it were suspect, history or not.
    """
    verdicts: dict[int, Verdict] = {}
    for metric in dict.fromkeys(item.metric for item in series):
        indices = [index for index, item in enumerate(series) if item.metric == metric]
        screened = screen(arrays_of([series[index] for index in indices], NIGHTS_KEPT), rule)
        for row, index in enumerate(indices):
            verdicts[index] = _verdict(series[index], screened, row, rule, by_pairs_only=by_pairs_only)
    return tuple(verdicts[index] for index in range(len(series)))


def _verdict(item: MetricSeries, screened: ScreenResult, row: int, rule: Rule, *, by_pairs_only: bool) -> Verdict:
    draft = Verdict(name=item.name, metric=item.metric, status="pass", nights=len(item.past))
    if item.outcome is not None:
        return draft.model_copy(update={"status": item.outcome, "reason": item.reason})
    decision = confirm(item.pairs, float(screened.pair_scale[row]), rule)
    if by_pairs_only:
        return _paired_verdict(draft, item, decision, "every case was asked for")
    if item.newest is None or not item.newest.logs:
        reason = item.reason or "the newest night has no measurement"
        return draft.model_copy(update={"status": "missing", "reason": reason})
    slower = float(screened.slower_z[row])
    if math.isnan(slower):
        return _without_screen(draft, item, decision, rule)
    if slower > screened.threshold:
        suspicion = f"z {slower:.1f} against the nights before; {screened.threshold:.1f} is suspicious"
        return _paired_verdict(_with_screened_change(draft, item, screened.slower, row), item, decision, suspicion)
    seen = _with_screened_change(draft, item, screened.newest, row)
    extra_reason = f"; {item.reason}" if item.reason else ""
    if float(screened.faster_z[row]) < -rule.improvement_z:
        return seen.model_copy(update={"status": "improved", "reason": f"better than the nights before{extra_reason}"})
    return seen.model_copy(update={"reason": f"as the nights before{extra_reason}"})


def _without_screen(draft: Verdict, item: MetricSeries, decision: Decision, rule: Rule) -> Verdict:
    """Where no screen is possible: too few nights, or none that may serve as a reference."""
    assert item.newest is not None
    if any(night.level < item.newest.level for night in item.past) and len(item.past) >= rule.least_nights:
        return draft.model_copy(update={"status": "new", "reason": "the first night of the level that was accepted"})
    count = f"{len(item.past)} comparable night{'s' * (len(item.past) != 1)}"
    if len(item.past) < rule.least_nights:
        too_few = f"{count}; {rule.least_nights} are needed"
        return (
            _paired_verdict(draft, item, decision, too_few)
            if item.pairs
            else draft.model_copy(update={"status": "new", "reason": too_few})
        )
    return _paired_verdict(draft, item, decision, f"{count}, of which none may serve as a reference")


def _with_screened_change(draft: Verdict, item: MetricSeries, change: ScreenedChange, row: int) -> Verdict:
    """With the change that the screen saw, where it saw one."""
    value, margin = float(change.value[row]), Z_95 * float(change.error[row])
    return (
        draft
        if math.isnan(value)
        else draft.model_copy(update=_change_fields(item, value, value - margin, value + margin))
    )


def is_unmistakable(verdict: Verdict, rule: Rule) -> bool:
    """Whether a change that was only screened is as large as an improvement has to be."""
    if verdict.change_pct is None or verdict.high_pct is None or verdict.low_pct is None:
        return False
    margin = (verdict.high_pct - verdict.low_pct) / 2
    return abs(verdict.change_pct) > rule.improvement_z / Z_95 * margin


def _paired_verdict(draft: Verdict, item: MetricSeries, decision: Decision, suspicion: str) -> Verdict:
    """The verdict of a suspect."""
    pairs = f"{decision.used} pair{'s' * (decision.used != 1)}"
    status, reason = {
        "slower": ("regressed", f"confirmed by {pairs}; {suspicion}"),
        "faster": ("improved", f"better in {pairs}; {suspicion}"),
        "unchanged": ("pass", f"suspected ({suspicion}), not confirmed by {pairs}"),
        "more": ("suspect", f"{suspicion}; it takes {decision.wanted} pairs to go on, {decision.used} are there"),
        "undecided": ("inconclusive", f"{pairs} gave no answer; {suspicion}"),
    }[decision.answer]
    seen = _change_fields(item, decision.change, *decision.interval) if decision.used > 1 else {}
    counted = {"pairs_used": decision.used, "pairs_wanted": decision.wanted}
    return draft.model_copy(update={**seen, **counted, "status": status, "reason": reason})


def _change_fields(item: MetricSeries, change: float, low: float, high: float) -> dict[str, float]:
    """Change with its interval, in per cent of the value, or in points of a share."""
    ends = [-change, -high, -low] if item.more_is_better else [change, low, high]
    percentages = [100 * (end if item.metric in SHARE_METRICS else math.expm1(end)) for end in ends]
    return dict(zip(("change_pct", "low_pct", "high_pct"), percentages, strict=True))


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


SCALING_METRICS: tuple[Metric, ...] = ("efficiency", "serial", "exposed")
MIN_LOG_SLOWDOWN = 0.005
"""ln of the least that a step must take longer for its scaling to have regressed."""
NO_SLOWDOWN_REASON = "its own step takes no longer: fewer ranks, or the compute, got faster"


def pass_scaling_without_slowdown(members: Sequence[JudgedSeries]) -> list[JudgedSeries]:
    """A shape that regressed in pairs passes where the same pairs show no slower step of the cell itself."""
    steps = {subject.key: series.pairs for subject, series, _ in members if subject.metric == "step"}
    adjusted = []
    for subject, series, verdict in members:
        pairs = steps.get(subject.key, ())
        step_not_slower = (
            verdict.status == "regressed"
            and verdict.metric in SCALING_METRICS
            and pairs
            and median(pairs) < MIN_LOG_SLOWDOWN
        )
        passed = verdict.model_copy(update={"status": "pass", "reason": f"{NO_SLOWDOWN_REASON}; {verdict.reason}"})
        adjusted.append((subject, series, passed if step_not_slower else verdict))
    return adjusted
