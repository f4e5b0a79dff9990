"""Series in, verdicts out: screen all of them, confirm the suspects by the pairs there are, say the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.verdicts.confirm import Decision, confirm
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.screen import ScreenedChange, ScreenResult, arrays_of, screen
from reports.verdicts.values import SHARE_METRICS, MetricSeries, Verdict

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
