"""From series to verdicts: screen all of them, test the suspects by their pairs, and hold ratios against their base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reports.analysis import formatting
from reports.regression.paired_test import Decision, confirm
from reports.regression.ratios import SCALING_METRICS, check_ratio, since_change_of_base, speeds_of
from reports.regression.rule import RULE, Rule
from reports.regression.screen import ScreenedChange, ScreenResult, arrays_of, night_at, screen
from reports.regression.subjects import Subject
from reports.regression.values import SHARE_METRICS, MetricSeries, Status, Verdict

NIGHTS_KEPT = 60
"""Nights of a history that the screen uses at most."""
THRESHOLD_SERIES = 5
"""With fewer series the past has too few results to raise the threshold of a suspicion, and is not compared:
:func:`reports.regression.screen.suspicion_threshold` would say the same."""
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
        nights = arrays_of([series[index] for index in indices], NIGHTS_KEPT)
        screened = screen(nights, rule, rule.suspicion_z if len(indices) < THRESHOLD_SERIES else None)
        for row, index in enumerate(indices):
            verdicts[index] = _verdict(series[index], screened, row, rule, by_pairs_only=by_pairs_only)
    return tuple(verdicts[index] for index in range(len(series)))


def _verdict(item: MetricSeries, screened: ScreenResult, row: int, rule: Rule, *, by_pairs_only: bool) -> Verdict:
    draft = Verdict(name=item.name, metric=item.metric, status="pass", nights=len(item.past))
    if item.outcome is not None:
        return draft.model_copy(update={"status": item.outcome, "reason": item.reason})
    slower = float(screened.slower_z[row])
    decision = confirm(item.pairs, float(screened.pair_scale[row]), rule, math.nan if by_pairs_only else slower)
    if by_pairs_only:
        return _paired_verdict(draft, item, decision, "all cases are tested")
    if item.newest is None or not item.newest.logs:
        reason = item.reason or "the newest night has no measurement"
        return draft.model_copy(update={"status": "missing", "reason": reason})
    if math.isnan(slower):
        return _without_screen(draft, item, decision, rule)
    if slower > screened.threshold:
        suspect = _with_screened_change(draft, item, screened.slower, row)
        suspicion = f"z {slower:.1f} against {_reference(suspect)}; {screened.threshold:.1f} is suspicious"
        return _paired_verdict(suspect, item, decision, suspicion)
    extra_reason = f"; {item.reason}" if item.reason else ""
    if float(screened.faster_z[row]) < -rule.improvement_z:
        improved = _with_screened_change(draft, item, screened.faster, row)
        reason = f"better than {_reference(improved)}{extra_reason}"
        return improved.model_copy(update={"status": "improved", "reason": reason})
    passed = _with_screened_change(draft, item, screened.newest, row)
    return passed.model_copy(update={"reason": f"as {_reference(passed)}{extra_reason}"})


def _reference(verdict: Verdict) -> str:
    return f"the nights since {verdict.compared_since}" if verdict.compared_since else "the nights before"


def _without_screen(draft: Verdict, item: MetricSeries, decision: Decision, rule: Rule) -> Verdict:
    """The verdict where no screen is possible: too few nights, or none that may serve as reference."""
    assert item.newest is not None
    if any(night.level < item.newest.level for night in item.past) and len(item.past) >= rule.least_nights:
        return draft.model_copy(update={"status": "new", "reason": "first night at a new level"})
    count = formatting.counted(len(item.past), "comparable night")
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
    if math.isnan(value):
        return draft
    since = night_at(item, int(change.since[row]), NIGHTS_KEPT) if change.since[row] else None
    fields = _change_fields(item, value, value - margin, value + margin)
    return draft.model_copy(update={**fields, "compared_since": since})


def is_unmistakable(verdict: Verdict, rule: Rule) -> bool:
    """Whether a screened change has the significance that an improvement needs."""
    if verdict.change_pct is None or verdict.high_pct is None or verdict.low_pct is None:
        return False
    margin = (verdict.high_pct - verdict.low_pct) / 2
    return abs(verdict.change_pct) > rule.improvement_z / Z_95 * margin


def _paired_verdict(draft: Verdict, item: MetricSeries, decision: Decision, suspicion: str) -> Verdict:
    """The verdict on a suspect by its pairs."""
    pairs = formatting.counted(decision.used, "pair")
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
    """Each series with its verdict, ratios after what they are relative to. See :func:`judge`."""
    ratios = {subject: item for subject, item in series if subject.metric in SCALING_METRICS}
    others = {subject: item for subject, item in series if subject not in ratios}
    judged = _judge_subjects(others, rule, by_pairs_only=by_pairs_only)
    speeds = speeds_of(judged)
    ratios = {subject: since_change_of_base(subject, item, speeds) for subject, item in ratios.items()}
    for subject, (item, verdict) in _judge_subjects(ratios, rule, by_pairs_only=by_pairs_only).items():
        judged[subject] = item, check_ratio(subject, verdict, speeds)
    return [(subject, *judged[subject]) for subject, _ in series]


def _judge_subjects(
    series: Mapping[Subject, MetricSeries], rule: Rule, *, by_pairs_only: bool
) -> dict[Subject, tuple[MetricSeries, Verdict]]:
    verdicts = judge(tuple(series.values()), rule, by_pairs_only=by_pairs_only)
    return {subject: (item, verdict) for (subject, item), verdict in zip(series.items(), verdicts, strict=True)}


def resolve_suspect(member: JudgedSeries, status: Status, reason: str) -> JudgedSeries:
    """Replace the status and reason of a suspect that gets no (more) pairs; other series stay as they are."""
    subject, series, verdict = member
    if verdict.status != "suspect":
        return member
    return subject, series, verdict.model_copy(update={"status": status, "pairs_wanted": 0, "reason": reason})
