"""A judgement as JUnit XML for the test view of a CI system: a test suite a curve, a test case a series.

``regressed`` is a failure; ``failed`` and ``missing`` are errors. What could not be judged is *skipped* with its
reason, so that a CI system does not show it as passed.
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bench.core.text import one_line
from reports.regression import wording
from reports.regression.summary import headline
from reports.regression.values import Judgement, Status, Verdict

RESULT_BY_STATUS: dict[Status, type[Failure | Error | Skipped]] = {
    "regressed": Failure,
    "failed": Error,
    "missing": Error,
    "suspect": Skipped,
    "inconclusive": Skipped,
    "incomparable": Skipped,
    "new": Skipped,
}
"""``pass`` and ``improved`` have no result element."""
ROOT_NAME = "harness check"
SIGNATURE = re.compile(rb'\A(<\?xml[^>]*\?>\s*)?<testsuites [^>]*name="%b"' % ROOT_NAME.encode())
"""The beginning of every file."""
DEFAULT_SUITE = "benchmarks"
"""The suite of benchmarks whose names contain none."""


def junit(judgement: Judgement) -> str:
    """The whole file. No series has a duration: the time of a step would be mistaken for that of a test."""
    suites: dict[str, list[TestCase]] = {}
    for verdict in judgement.verdicts:
        name = _suite_name(verdict)
        suites.setdefault(name, []).append(_test_case(name, verdict))
    root = JUnitXml(ROOT_NAME)
    for name, cases in suites.items():
        suite = TestSuite(name)
        if judgement.started_at:
            suite.timestamp = _utc(judgement.started_at)
        for key, value in _properties(judgement).items():
            suite.add_property(key, one_line(value))
        suite.add_testcases(cases)
        root.add_testsuite(suite)
    root.update_statistics()  # type: ignore[no-untyped-call]  # junitparser annotates it nowhere
    content = io.BytesIO()
    root.write(content, pretty=True)
    return content.getvalue().decode()


def _test_case(suite: str, verdict: Verdict) -> TestCase:
    case = TestCase(_case_name(verdict), suite)
    result_type = RESULT_BY_STATUS.get(verdict.status)
    if result_type is None:
        case.system_out = _message(verdict)
        return case
    result = result_type(_message(verdict))
    if result_type is not Skipped:
        result.type = verdict.status
        result.text = wording.sentence(verdict)
    case.result = [result]
    return case


def _message(verdict: Verdict) -> str:
    """``regressed: step time +10.4 % (+8.9 to +11.8 %), slower, 16 pairs; the reason``"""
    change = wording.change_text(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric)
    pairs = wording.pairs_text(verdict.pairs_used, verdict.pairs_wanted)
    parts = [
        "" if change == "–" else f"{wording.METRIC_WORDING[verdict.metric].title} {change}",
        wording.direction(verdict),
        "" if pairs == "–" else f"{pairs} pairs",
    ]
    numbers = ", ".join(filter(None, parts))
    opening = f"{verdict.status}: {numbers}" if numbers else verdict.status
    return "; ".join(filter(None, (opening, one_line(verdict.reason))))


def _suite_name(verdict: Verdict) -> str:
    """The curve of a case; the file of a ``file::benchmark``."""
    name = one_line(verdict.name)
    curve, ranks = wording.split_name(name)
    if ranks != "–":
        return curve
    return name.partition("::")[0] if "::" in name else DEFAULT_SUITE


def _case_name(verdict: Verdict) -> str:
    """The same every night: CI systems recognise a test case by it."""
    label = wording.label_within_curve(verdict)
    return label.partition("::")[2] or label


def _properties(judgement: Judgement) -> dict[str, str]:
    """Properties of every suite; the root element can have none."""
    assurance = judgement.assurance
    properties = {
        "verdict": headline(judgement),
        "judged": judgement.judged,
        "commit": judgement.commit,
        "base": judgement.base_commit,
        "machine": judgement.machine,
        "false_alarm_rate": f"{assurance.false_alarm_rate:g}" if assurance else None,
        "assurance": wording.assurance_text(assurance),
    }
    return {name: value for name, value in properties.items() if value}


def _utc(timestamp: str) -> str:
    """Without zone and fractions, as the schemas want it. Raises ``ValueError`` for what is no ISO 8601 date."""
    moment = datetime.fromisoformat(timestamp)
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%dT%H:%M:%S}"
