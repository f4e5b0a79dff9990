"""From series to verdicts: screen all of them, then test the suspects by their pairs.

Scaling metrics get worse also where fewer ranks became faster. Such a regression passes where the cell's own step takes
no longer (:func:`pass_scaling_without_slowdown`).
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
"""Nights of a history that the screen uses at most."""
Z_95 = 1.96


def judge(series: Sequence[MetricSeries], rule: Rule = RULE, *, by_pairs_only: bool = False) -> tuple[Verdict, ...]:
    """One verdict for each series, in the order given.

    Args:
        series: Series of one metric are judged together, since noise is estimated in part from the others.
        rule: Parameters of screen and test.
        by_pairs_only: Test every series by its pairs as if it were suspect, with or without a history.
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
        return _paired_verdict(draft, item, decision, "all cases are tested")
    if item.newest is None or not item.newest.logs:
        reason = item.reason or "the newest night has no measurement"
        return draft.model_copy(update={"status": "missing", "reason": reason})
    slower = float(screened.slower_z[row])
    if math.isnan(slower):
        return _without_screen(draft, item, decision, rule)
    if slower > screened.threshold:
        suspicion = f"z {slower:.1f} against the nights before; {screened.threshold:.1f} is suspicious"
        return _paired_verdict(_with_screened_change(draft, item, screened.slower, row), item, decision, suspicion)
    screened_verdict = _with_screened_change(draft, item, screened.newest, row)
    extra_reason = f"; {item.reason}" if item.reason else ""
    if float(screened.faster_z[row]) < -rule.improvement_z:
        return screened_verdict.model_copy(
            update={"status": "improved", "reason": f"better than the nights before{extra_reason}"}
        )
    return screened_verdict.model_copy(update={"reason": f"as the nights before{extra_reason}"})


def _without_screen(draft: Verdict, item: MetricSeries, decision: Decision, rule: Rule) -> Verdict:
    """The verdict where no screen is possible: too few nights, or none that may serve as reference."""
    assert item.newest is not None
    if any(night.level < item.newest.level for night in item.past) and len(item.past) >= rule.least_nights:
        return draft.model_copy(update={"status": "new", "reason": "first night at the accepted level"})
    count = f"{len(item.past)} comparable night{'s' * (len(item.past) != 1)}"
    if len(item.past) < rule.least_nights:
        too_few = f"{count}; {rule.least_nights} are needed"
        return (
            _paired_verdict(draft, item, decision, too_few)
            if item.pairs
            else draft.model_copy(update={"status": "new", "reason": too_few})
        )
    return _paired_verdict(draft, item, decision, f"{count}, of which none may serve as reference")


def _with_screened_change(draft: Verdict, item: MetricSeries, change: ScreenedChange, row: int) -> Verdict:
    """The verdict with the change that the screen measured, if any."""
    value, margin = float(change.value[row]), Z_95 * float(change.error[row])
    return (
        draft
        if math.isnan(value)
        else draft.model_copy(update=_change_fields(item, value, value - margin, value + margin))
    )


def is_unmistakable(verdict: Verdict, rule: Rule) -> bool:
    """Whether a screened change has the significance that an improvement needs."""
    if verdict.change_pct is None or verdict.high_pct is None or verdict.low_pct is None:
        return False
    margin = (verdict.high_pct - verdict.low_pct) / 2
    return abs(verdict.change_pct) > rule.improvement_z / Z_95 * margin


def _paired_verdict(draft: Verdict, item: MetricSeries, decision: Decision, suspicion: str) -> Verdict:
    """The verdict on a suspect by its pairs."""
    pairs = f"{decision.used} pair{'s' * (decision.used != 1)}"
    status, reason = {
        "slower": ("regressed", f"confirmed by {pairs}; {suspicion}"),
        "faster": ("improved", f"better in {pairs}; {suspicion}"),
        "unchanged": ("pass", f"suspected ({suspicion}), not confirmed by {pairs}"),
        "more": ("suspect", f"{suspicion}; {decision.wanted} pairs are needed, {decision.used} were run"),
        "undecided": ("inconclusive", f"{pairs} gave no answer; {suspicion}"),
    }[decision.answer]
    change = _change_fields(item, decision.change, *decision.interval) if decision.used > 1 else {}
    counted = {"pairs_used": decision.used, "pairs_wanted": decision.wanted}
    return draft.model_copy(update={**change, **counted, "status": status, "reason": reason})


def _change_fields(item: MetricSeries, change: float, low: float, high: float) -> dict[str, float]:
    """The change with its interval: in per cent of the value, or in percentage points of a share."""
    ends = [-change, -high, -low] if item.more_is_better else [change, low, high]
    percentages = [100 * (end if item.metric in SHARE_METRICS else math.expm1(end)) for end in ends]
    return dict(zip(("change_pct", "low_pct", "high_pct"), percentages, strict=True))


JudgedSeries = tuple[Subject, MetricSeries, Verdict]
"""A subject with its nights and its verdict."""


def judge_series(
    series: Sequence[tuple[Subject, MetricSeries]], rule: Rule, *, by_pairs_only: bool = False
) -> list[JudgedSeries]:
    """Each series with its verdict. See :func:`judge`."""
    verdicts = judge([item for _, item in series], rule, by_pairs_only=by_pairs_only)
    return [(subject, item, verdict) for (subject, item), verdict in zip(series, verdicts, strict=True)]


def resolve_suspect(member: JudgedSeries, status: Status, reason: str) -> JudgedSeries:
    """Replace the status and reason of a suspect that gets no (more) pairs; other series stay as they are."""
    subject, series, verdict = member
    if verdict.status != "suspect":
        return member
    return subject, series, verdict.model_copy(update={"status": status, "pairs_wanted": 0, "reason": reason})


SCALING_METRICS: tuple[Metric, ...] = ("efficiency", "serial", "exposed")
MIN_LOG_SLOWDOWN = 0.005
"""Smallest slowdown of the step, as ln, with which its scaling can have regressed."""
NO_SLOWDOWN_REASON = "its own step takes no longer: fewer ranks, or compute, became faster"


def pass_scaling_without_slowdown(members: Sequence[JudgedSeries]) -> list[JudgedSeries]:
    """Pass scaling metrics that regressed in pairs where the same pairs show no slower step of the cell itself."""
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
