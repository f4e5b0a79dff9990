"""Series in, verdicts out: screen all of them, confirm the suspects by the pairs there are, say the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.verdicts.confirm import Decision, confirm
from reports.verdicts.rule import RULE, Rule
from reports.verdicts.screen import Change, Screened, arrays_of, screen
from reports.verdicts.values import POINTS, Series, Verdict

NIGHTS_KEPT = 60
"""More of a history changes nothing in what the screen says."""
SURE = 1.96


def judge(series: Sequence[Series], rule: Rule = RULE, *, by_pairs_only: bool = False) -> tuple[Verdict, ...]:
    """One verdict a series, in the order given.

    Series of one metric are judged together: how noisy one is, is partly learnt from the others. With
    ``by_pairs_only`` every series is confirmed as if it were suspect, history or not.
    """
    found: dict[int, Verdict] = {}
    for metric in dict.fromkeys(one.metric for one in series):
        places = [place for place, one in enumerate(series) if one.metric == metric]
        screened = screen(arrays_of([series[place] for place in places], NIGHTS_KEPT), rule)
        for row, place in enumerate(places):
            found[place] = _verdict(series[place], screened, row, rule, by_pairs_only=by_pairs_only)
    return tuple(found[place] for place in range(len(series)))


def _verdict(one: Series, screened: Screened, row: int, rule: Rule, *, by_pairs_only: bool) -> Verdict:
    plain = Verdict(name=one.name, metric=one.metric, status="pass", nights=len(one.past))
    if one.outcome is not None:
        return plain.model_copy(update={"status": one.outcome, "reason": one.reason})
    decision = confirm(one.pairs, float(screened.pair_scale[row]), rule)
    if by_pairs_only:
        return _confirmed(plain, one, decision, "every case was asked for")
    if one.newest is None or not one.newest.logs:
        reason = one.reason or "the newest night has no measurement"
        return plain.model_copy(update={"status": "missing", "reason": reason})
    slower = float(screened.slower_z[row])
    if math.isnan(slower):
        return _unscreened(plain, one, decision, rule)
    if slower > screened.threshold:
        suspicion = f"z {slower:.1f} against the nights before; {screened.threshold:.1f} is suspicious"
        return _confirmed(_seen(plain, one, screened.slower, row), one, decision, suspicion)
    seen = _seen(plain, one, screened.newest, row)
    also = f"; {one.reason}" if one.reason else ""
    if float(screened.faster_z[row]) < -rule.improvement_z:
        return seen.model_copy(update={"status": "improved", "reason": f"better than the nights before{also}"})
    return seen.model_copy(update={"reason": f"as the nights before{also}"})


def _unscreened(plain: Verdict, one: Series, decision: Decision, rule: Rule) -> Verdict:
    """Where no screen is possible: too few nights, or none that may serve as a reference."""
    assert one.newest is not None
    if any(night.level < one.newest.level for night in one.past) and len(one.past) >= rule.least_nights:
        return plain.model_copy(update={"status": "new", "reason": "the first night of the level that was accepted"})
    count = f"{len(one.past)} comparable night{'s' * (len(one.past) != 1)}"
    if len(one.past) < rule.least_nights:
        few = f"{count}; {rule.least_nights} are needed"
        return _confirmed(plain, one, decision, few) if one.pairs else plain.model_copy(
            update={"status": "new", "reason": few}
        )  # fmt: skip
    return _confirmed(plain, one, decision, f"{count}, of which none may serve as a reference")


def _seen(plain: Verdict, one: Series, change: Change, row: int) -> Verdict:
    """With the change that the screen saw, where it saw one."""
    value, half = float(change.value[row]), SURE * float(change.error[row])
    return plain if math.isnan(value) else plain.model_copy(update=_changed(one, value, value - half, value + half))


def is_unmistakable(verdict: Verdict, rule: Rule) -> bool:
    """Whether a change that was only screened is as large as an improvement has to be."""
    if verdict.change_pct is None or verdict.high_pct is None or verdict.low_pct is None:
        return False
    half = (verdict.high_pct - verdict.low_pct) / 2
    return abs(verdict.change_pct) > rule.improvement_z / SURE * half


def _confirmed(plain: Verdict, one: Series, decision: Decision, suspicion: str) -> Verdict:
    """The verdict of a suspect."""
    pairs = f"{decision.used} pair{'s' * (decision.used != 1)}"
    status, reason = {
        "slower": ("regressed", f"confirmed by {pairs}; {suspicion}"),
        "faster": ("improved", f"better in {pairs}; {suspicion}"),
        "unchanged": ("pass", f"suspected ({suspicion}), not confirmed by {pairs}"),
        "more": ("suspect", f"{suspicion}; it takes {decision.wanted} pairs to go on, {decision.used} are there"),
        "undecided": ("inconclusive", f"{pairs} gave no answer; {suspicion}"),
    }[decision.answer]
    seen = _changed(one, decision.change, *decision.interval) if decision.used > 1 else {}
    counted = {"pairs_used": decision.used, "pairs_wanted": decision.wanted}
    return plain.model_copy(update={**seen, **counted, "status": status, "reason": reason})


def _changed(one: Series, change: float, low: float, high: float) -> dict[str, float]:
    """Change with its interval, in per cent of the value, or in points of a share."""
    ends = [-change, -high, -low] if one.more_is_better else [change, low, high]
    told = [100 * (end if one.metric in POINTS else math.expm1(end)) for end in ends]
    return dict(zip(("change_pct", "low_pct", "high_pct"), told, strict=True))
