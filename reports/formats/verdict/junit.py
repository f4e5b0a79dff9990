"""A judgement as JUnit XML: a test suite a curve, a test case a series, for the test view of any CI system.

``regressed`` is a failure, ``failed`` and ``missing`` are errors. What could not be told is *skipped* with its reason:
views of tests know red, yellow and green, and what nobody could judge must not be green.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from reports.regression import wording
from reports.regression.summary import headline
from reports.regression.values import Judgement, Status, Verdict

ELEMENT_BY_STATUS: dict[Status, str] = {
    "regressed": "failure",
    "failed": "error",
    "missing": "error",
    "suspect": "skipped",
    "inconclusive": "skipped",
    "incomparable": "skipped",
    "new": "skipped",
}
"""The element that says so; what passed and what improved have none."""
COUNTERS = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
DEFAULT_SUITE = "benchmarks"
"""The suite of benchmarks whose names tell of none."""


def junit(judgement: Judgement) -> str:
    """The whole file. Times are left out: a verdict took none, and a step's would be taken for a test's."""
    root = Element("testsuites", {"name": "harness check", **_counts(judgement.verdicts)})
    suites: dict[str, list[Verdict]] = {}
    for verdict in judgement.verdicts:
        suites.setdefault(_suite_name(verdict), []).append(verdict)
    for name, verdicts in suites.items():
        _add_suite(root, name, verdicts, judgement)
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _add_suite(root: Element, name: str, verdicts: Sequence[Verdict], judgement: Judgement) -> None:
    timestamp = {"timestamp": _utc(judgement.started_at)} if judgement.started_at else {}
    suite = SubElement(root, "testsuite", {"name": name, **_counts(verdicts), **timestamp})
    properties = SubElement(suite, "properties")
    for about, value in _properties(judgement).items():
        SubElement(properties, "property", name=about, value=wording.one_line(value))
    for verdict in verdicts:
        _add_case(suite, name, verdict)


def _add_case(suite: Element, name: str, verdict: Verdict) -> None:
    case = SubElement(suite, "testcase", classname=name, name=_case_name(verdict))
    outcome = ELEMENT_BY_STATUS.get(verdict.status)
    if outcome is None:
        SubElement(case, "system-out").text = _message(verdict)
        return
    said = SubElement(case, outcome, message=_message(verdict))
    if outcome != "skipped":
        said.set("type", verdict.status)
        said.text = wording.sentence(verdict)


def _message(verdict: Verdict) -> str:
    """``regressed: step time +10.4 % (+8.9 to +11.8), slower, 16 pairs; the reason``"""
    change = wording.change_text(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric)
    spent = wording.pairs_text(verdict.pairs_used, verdict.pairs_wanted)
    parts = [
        "" if change == "–" else f"{wording.METRIC_WORDING[verdict.metric].title} {change}",
        wording.direction(verdict),
        "" if spent == "–" else f"{spent} pairs",
    ]
    numbers = ", ".join(filter(None, parts))
    said = f"{verdict.status}: {numbers}" if numbers else verdict.status
    return "; ".join(filter(None, (said, wording.one_line(verdict.reason))))


def _suite_name(verdict: Verdict) -> str:
    """The curve of a case; the file of a ``file::benchmark``."""
    name = wording.one_line(verdict.name)
    curve, ranks = wording.split_name(name)
    if ranks != "–":
        return curve
    return name.partition("::")[0] if "::" in name else DEFAULT_SUITE


def _case_name(verdict: Verdict) -> str:
    """Stable from night to night: views tell by it what is new, and since when it fails."""
    told = wording.label_within_curve(verdict)
    return told.partition("::")[2] or told


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    told = [ELEMENT_BY_STATUS.get(verdict.status) for verdict in verdicts]
    return {"tests": str(len(told)), **{name: str(told.count(element)) for name, element in COUNTERS}}


def _properties(judgement: Judgement) -> dict[str, str]:
    """Of every suite: the usual schemas have no place for them above."""
    found = judgement.assurance
    known = {
        "verdict": headline(judgement),
        "judged": judgement.judged,
        "commit": judgement.commit,
        "base": judgement.base_commit,
        "machine": judgement.machine,
        "false_alarm_rate": f"{found.false_alarm_rate:g}" if found else None,
        "assurance": wording.assurance_text(found),
    }
    return {name: value for name, value in known.items() if value}


def _utc(timestamp: str) -> str:
    """As the usual schemas want it: no zone, no fractions. Raises ``ValueError`` for what is no ISO 8601 date."""
    moment = datetime.fromisoformat(timestamp)
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%dT%H:%M:%S}"
