"""Wording of verdicts: names, changes and sentences, the same in the terminal, in CI and on the page."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.text import one_line
from reports.analysis import changes, formatting
from reports.analysis.stats import Estimate
from reports.regression.values import SHARE_METRICS, Assurance, Finding, FindingKind, Metric, Verdict

RANKS = re.compile(r"/ranks=([0-9]{1,7})(?![0-9])")
NAMELESS = "(no name)"


@dataclass(frozen=True)
class MetricWording:
    """Of a metric: its name, what an increase and a decrease are called, and phrases for a change by ``{}``."""

    title: str
    more: str
    less: str
    increase: str
    decrease: str


METRIC_WORDING: dict[Metric, MetricWording] = {
    "step": MetricWording(
        "step time", "slower", "faster", "takes {} longer for a step", "takes {} less time for a step"
    ),
    "throughput": MetricWording(
        "throughput", "faster", "slower", "gained {} of throughput", "lost {} of its throughput"
    ),
    "memory": MetricWording(
        "memory peak", "more memory", "less memory", "takes {} more memory", "takes {} less memory"
    ),
    "energy": MetricWording(
        "energy per sample",
        "more energy",
        "less energy",
        "takes {} more energy for a sample",
        "takes {} less energy for a sample",
    ),
    "efficiency": MetricWording(
        "efficiency", "better scaling", "lost scaling", "gained {} of efficiency", "lost {} of its efficiency"
    ),
    "serial": MetricWording(
        "serial fraction",
        "lost scaling",
        "better scaling",
        "has a serial fraction {} larger",
        "has a serial fraction {} smaller",
    ),
    "exposed": MetricWording(
        "exposed communication",
        "lost scaling",
        "better scaling",
        "spends {} more of a step on exposed communication",
        "spends {} less of a step on exposed communication",
    ),
}
FINDING_METRICS: dict[FindingKind, tuple[Metric, ...]] = {
    "slower": ("step", "throughput"),
    "faster": ("step", "throughput"),
    "lost scaling": ("efficiency", "serial", "exposed", "step", "throughput"),
    "more memory": ("memory",),
    "more energy": ("energy",),
    "other": tuple(METRIC_WORDING),
}
"""The metrics that a finding of each kind can be about, the most likely first."""


def display_name(name: str) -> str:
    """A name on one line; :data:`NAMELESS` for a blank one."""
    return one_line(name) or NAMELESS


def verdict_key(verdict: Verdict) -> str:
    """``NAME`` for a step time, ``NAME · memory`` for another metric: unique in a judgement."""
    return verdict.name if verdict.metric == "step" else f"{verdict.name} · {verdict.metric}"


def split_name(name: str) -> tuple[str, str]:
    """The curve and the rank count in a case's key; other names are a curve themselves, with rank count ``–``."""
    match = RANKS.search(name)
    return (name[: match.start()] + name[match.end() :], match[1]) if match else (name, "–")


def short_names(verdicts: Sequence[Verdict]) -> tuple[dict[str, str], str]:
    """Short names by curve, without the parts that all curves share, and these parts: ``strong · batch=128 · cpu``.

    A curve always keeps its workload and its backend.
    """
    curves = {split_name(verdict.name)[0] for verdict in verdicts if RANKS.search(verdict.name)}
    parts = {curve: curve.split("/") for curve in curves}
    common = set.intersection(*(set(names[2:]) for names in parts.values())) if parts else set()
    short = {
        curve: " · ".join([*names[:2], *(part for part in names[2:] if part not in common)])
        for curve, names in parts.items()
    }
    shared = [part for part in next(iter(parts.values()), []) if part in common]
    return short, one_line(" · ".join(shared))


def label_within_curve(verdict: Verdict) -> str:
    """``4 ranks: memory peak``: the name of a series within its curve.

    Without a rank count it is the name of the series, with the metric where that is not the step time.
    """
    name = display_name(verdict.name)
    ranks = split_name(name)[1]
    metric_title = METRIC_WORDING[verdict.metric].title
    if ranks != "–":
        return f"{formatting.ranks(int(ranks))}: {metric_title}"
    return name if verdict.metric == "step" else f"{name}: {metric_title}"


def change_text(percent: float | None, low: float | None, high: float | None, metric: Metric | None = None) -> str:
    """``+10.4 % (+8.9 to +11.8 %)``, beyond 2× ``×16.3 (×12.0 to ×25.0)``; for a share ``+4.0 points (…)``.

    ``–`` where the change is unknown.
    """
    if percent is None or not math.isfinite(percent):
        return "–"
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    ends = (low / 100, high / 100) if known and low is not None and high is not None else (None, None)
    return (changes.points if metric in SHARE_METRICS else changes.multiple)(percent / 100, *ends)


def direction(verdict: Verdict) -> str:
    """``slower``, ``less memory``, …; empty for a verdict that reports no change."""
    if verdict.change_pct is None or verdict.status not in ("regressed", "improved", "suspect", "inconclusive"):
        return ""
    return METRIC_WORDING[verdict.metric].more if verdict.change_pct > 0 else METRIC_WORDING[verdict.metric].less


def sentence(verdict: Verdict) -> str:
    """``mlp/ddp-gloo at 4 ranks lost 10.4 % (8.9–11.8 %) of its throughput``, or the reason; without a full stop."""
    curve, ranks = split_name(display_name(verdict.name))
    subject = curve if ranks == "–" else f"{curve} at {formatting.ranks(int(ranks))}"
    if verdict.change_pct is None or not math.isfinite(verdict.change_pct) or not direction(verdict):
        return f"{subject}: {one_line(verdict.reason)}" if verdict.reason else subject
    return f"{subject} {_change_phrase(verdict, verdict.change_pct)}"


def metric_of(finding: Finding, verdicts: Sequence[Verdict]) -> Metric | None:
    """The metric of a finding: the most likely of its kind among its verdicts."""
    there = {verdict.metric for verdict in finding_verdicts(finding, verdicts)}
    return next((metric for metric in FINDING_METRICS[finding.kind] if metric in there), None)


def finding_verdicts(finding: Finding, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts that a finding summarizes: of the series it names, those of its kind's metrics and its status."""
    names = set(finding.verdicts)
    return tuple(
        verdict
        for verdict in verdicts
        if (verdict_key(verdict) in names or verdict.name in names)
        and verdict.metric in FINDING_METRICS[finding.kind]
        and verdict.status == finding.status
    )


def finding_title(finding: Finding, metric: Metric | None) -> str:
    """``slower: step time``, ``more memory``"""
    kind = "" if finding.kind == "other" else finding.kind
    phrase = METRIC_WORDING[metric].title if metric and finding.kind not in ("more memory", "more energy") else ""
    return ": ".join(filter(None, (kind, phrase))) or "–"


def pairs_text(used: int, wanted: int) -> str:
    """``16``; ``8 of 24`` where more are needed; ``–`` for none."""
    if wanted > used:
        return f"{used} of {wanted}"
    return str(used) if used else "–"


def assurance_text(assurance: Assurance | None) -> str:
    """The measured false-alarm rate and power of the rule in one or two sentences."""
    if assurance is None:
        return "The error rates of this rule have not been measured: run `python -m harness check --calibrate`."
    sentences = (
        f"False alarms of this rule: {assurance.false_alarms:,} in {assurance.checks:,} checks, "
        f"{_rate(assurance.false_alarm_rate)} (at most {_rate(assurance.false_alarm_high)}), "
        f"{one_line(assurance.source, 300)}."
    )
    if assurance.found_pct:
        sizes = ", ".join(
            f"{formatting.share(percent / 100, 1)} within {formatting.counted(int(nights), 'night')}"
            for nights, percent in sorted(assurance.found_pct.items(), key=lambda one: int(one[0]))[:5]
        )
        sentences += f" It finds 95 % of slowdowns of {sizes}."
    return sentences


def shell_command(*arguments: str) -> str:
    """A command line to be copied."""
    return shlex.join(arguments)


FACTOR_PHRASES: dict[Metric, str] = {
    "step": "is {}",
    "throughput": "is {}",
    "memory": "takes {}",
    "energy": "takes {} for a sample",
}
"""What is said of a subject whose metric changed by more than 2×: ``is 16.7× slower (12.0–25.0×)``."""


def _change_phrase(verdict: Verdict, percent: float) -> str:
    """What a verdict says of its subject, with the size of the change."""
    naming = METRIC_WORDING[verdict.metric]
    known = [end / 100 for end in (verdict.low_pct, verdict.high_pct) if end is not None and math.isfinite(end)]
    low, high = known if len(known) == 2 else (None, None)
    phrase = naming.increase if percent > 0 else naming.decrease
    if verdict.metric in SHARE_METRICS:
        return phrase.format(changes.size(percent / 100, low, high, "points"))
    if percent <= -100 or not changes.exceeds_a_factor(percent / 100, *known):
        return phrase.format(changes.size(percent / 100, low, high))
    if verdict.metric not in FACTOR_PHRASES:
        return f"changed its {naming.title} by {changes.multiple(percent / 100, low, high)}"
    low, high = (None, None) if low is None or high is None else (1 + low, 1 + high)
    ratio = Estimate(value=1 + percent / 100, low=low, high=high, n=verdict.pairs_used, unit="1")
    return FACTOR_PHRASES[verdict.metric].format(changes.change(ratio, naming.more, naming.less))


def _rate(share: float) -> str:
    """``0.023 %``"""
    return formatting.small_share(share)
