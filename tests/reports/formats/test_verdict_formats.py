"""A judgement in the terminal, as JSON, as JUnit XML and as Markdown, read back by what others read them with."""

from __future__ import annotations

import io
import json
from html import unescape
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from rich.console import Console

from reports.formats.markdown_text import GITHUB_COMMENT_LIMIT
from reports.formats.verdict import terminal
from reports.formats.verdict.json_document import verdict_document
from reports.formats.verdict.junit import junit
from reports.formats.verdict.markdown import UNFOLDED_ROWS, markdown
from reports.regression.rows import rows
from reports.regression.values import WORST_FIRST
from tests.support import judgements
from tests.support.judgements import ODD, of, one_each, verdict

EVERY = {
    "everything": judgements.everything(),
    "nothing": judgements.nothing(),
    "thousand": judgements.thousand(),
    "odd": judgements.odd(),
    "odd skips": judgements.odd("incomparable"),
    "numberless": judgements.numberless(),
    "passes": of(*judgements.passes(20), assurance=judgements.ASSURANCE),
    "one each": one_each(*WORST_FIRST),
}
NOT_GREEN = ("suspect", "inconclusive", "incomparable", "new")


@pytest.fixture(params=EVERY.values(), ids=EVERY)
def judgement(request):
    return request.param


def printed(judgement, width, colours=False):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colours, color_system="standard" if colours else None
    )
    for line in terminal.header_lines(judgement):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if (table := terminal.table(judgement, width)) is not None:
        console.print(table)
    for line in terminal.footer_lines(judgement):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return console.file.getvalue()


def table_of(judgement, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal.table(judgement, width))
    return console.file.getvalue().splitlines()


# The terminal


@pytest.mark.parametrize("width", [80, 110])
def test_the_table_fits_and_keeps_every_number_whole(width):
    lines = table_of(judgements.everything(), width)
    assert max(map(len, lines)) <= width
    assert any("-10.4 % (-11.8 to -8.9 %)" in line for line in lines)
    assert [line.split()[0] for line in lines if line.strip().split(" ")[0] in WORST_FIRST][:3] == [
        "regressed",
        "regressed",
        "failed",
    ]


def test_colours_are_for_terminals_only():
    assert "\x1b[" in printed(judgements.everything(), 110, colours=True)
    assert "\x1b" not in printed(judgements.everything(), 110)


def test_no_name_steers_a_terminal(judgement):
    text = printed(judgement, 80)
    assert not set(text) & {chr(code) for code in (*range(10), *range(11, 32), 127)}
    text.encode()


def test_one_reason_of_many_series_is_said_once():
    lines = terminal.footer_lines(judgements.thousand("incomparable", reason="other machine"))
    assert "incomparable: bench_0, step time and 999 more: other machine" in lines
    assert "… and 960 more; `--json` has them all" in lines
    assert len(terminal.footer_lines(judgements.thousand())) < 30


def test_where_all_passed_there_is_no_table_and_the_count_is_told():
    assert terminal.table(EVERY["passes"]) is None
    assert terminal.header_lines(EVERY["passes"])[0] == "All 20 series passed."


def test_what_the_rule_gets_wrong_is_always_said():
    assert "7 in 31,000 checks, 0.023 % (at most 0.046 %)" in terminal.footer_lines(judgements.everything())[-1]
    assert "have not been measured" in terminal.footer_lines(one_each("pass"))[-1]


# JSON


def test_json_is_strict_and_complete(judgement):
    document = json.loads(json.dumps(verdict_document(judgement), allow_nan=False))
    assert len(document["verdicts"]) == len(judgement.verdicts) == len(document["benchmarks"])
    assert sum(document["counts"].values()) == len(judgement.verdicts)
    assert document["exit"] in (0, 1, 3, 4)


def test_benchmarks_are_found_by_name_and_metric():
    found = verdict_document(judgements.everything())["benchmarks"]
    assert found["bench_0"]["status"] == "pass"
    assert found[f"{judgements.MLP}/ranks=4"]["pairs_wanted"] == 8
    slower = found[f"{judgements.MLP}/ranks=2 · throughput"]
    assert slower == {
        "place": "",
        "not_confirmable": "",
        "metric": "throughput",
        "status": "regressed",
        "change_pct": -10.4,
        "low_pct": -11.8,
        "high_pct": -8.9,
        "pairs_used": 16,
        "pairs_wanted": 0,
        "nights": 29,
        "compared_since": None,
        "reason": "",
    }


def test_of_two_verdicts_with_one_key_the_worse_is_kept():
    found = verdict_document(of(verdict("a"), verdict("a", "regressed"), verdict("a", "new")))
    assert [one["status"] for one in found["benchmarks"].values()] == ["regressed"]


def test_json_keeps_names_as_they_are_and_has_no_infinity():
    assert set(verdict_document(judgements.odd())["benchmarks"]) == set(ODD)
    assert verdict_document(judgements.numberless())["benchmarks"]["nan"]["change_pct"] is None


# JUnit


def read(judgement) -> dict[str, list]:
    """Test cases by status of the verdict, from a real reader's view of the file."""
    return {case.name: case.result for suite in JUnitXml.fromstring(junit(judgement).encode()) for case in suite}


def test_a_reader_of_junit_counts_what_the_file_says(judgement):
    text = junit(judgement)
    root = ElementTree.fromstring(text.encode())
    suites = JUnitXml.fromstring(text.encode())
    declared = {name: int(root.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    suites.update_statistics()
    assert declared == {
        "tests": suites.tests,
        "failures": suites.failures,
        "errors": suites.errors,
        "skipped": suites.skipped,
    }
    assert declared["tests"] == len(judgement.verdicts)


def test_the_file_has_the_shape_that_readers_expect(judgement):
    root = ElementTree.fromstring(junit(judgement).encode())
    assert root.tag == "testsuites"
    for suite in root:
        counts = [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")]
        assert [child.tag for child in suite] == ["properties", *["testcase"] * counts[0]]
        assert counts[1:] == [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")]
        for case in suite.findall("testcase"):
            assert case.get("name")
            assert case.get("classname") == suite.get("name")
            assert len(case) == 1
            assert case[0].tag == "system-out" or case[0].get("message")


@pytest.mark.parametrize(
    ("status", "element"),
    [
        ("regressed", Failure),
        ("failed", Error),
        ("missing", Error),
        *((status, Skipped) for status in NOT_GREEN),
    ],
)
def test_what_is_no_pass_is_not_green(status, element):
    ((result,),) = read(of(verdict("a", status, reason="so it is"))).values()
    assert isinstance(result, element)
    assert "so it is" in result.message


def test_what_passed_is_green():
    assert list(read(one_each("pass", "improved")).values()) == [[], []]


def test_series_of_a_curve_share_a_suite_and_have_names_of_their_own():
    suites = {
        suite.name: [case.name for case in suite] for suite in JUnitXml.fromstring(junit(judgements.everything()))
    }
    assert suites[judgements.MLP] == ["2 ranks: throughput", "4 ranks: step time", "1 rank: memory peak"]
    assert suites["suites/test_micro.py"] == ["test_batching[32]"]
    assert len(suites["benchmarks"]) == 43


def test_the_file_says_what_was_judged_and_how_surely():
    suite = next(iter(JUnitXml.fromstring(junit(judgements.everything()))))
    known = {one.name: one.value for one in suite.properties()}
    assert (known["commit"], known["base"]) == ("1a2b3c4d5e6f70819", "9f8e7d6c5b4a39281")
    assert float(known["false_alarm_rate"]) == pytest.approx(7 / 31_000, rel=1e-4)
    assert suite.timestamp == "2026-10-03T01:00:00"


# Markdown


def rendered(judgement):
    """As GitHub reads it: CommonMark with tables and raw HTML."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return parser.render(markdown(judgement))


def test_markdown_fits_a_comment_and_is_a_table_of_every_row(judgement):
    assert len(markdown(judgement)) <= GITHUB_COMMENT_LIMIT
    html = rendered(judgement)
    shown = html.count("<tr>") - html.count("<thead>")
    expected = len(rows(judgement))
    assert shown == expected or f"{expected - shown:,} further rows do not fit here" in html
    assert html.count("<td") == 7 * shown


def test_twenty_rows_are_open_and_the_others_folded():
    opened, folded = rendered(judgements.thousand()).split("<details>")
    assert opened.count("<tr>") == UNFOLDED_ROWS + 1
    assert folded.count("<tr>") > 100


@pytest.mark.parametrize("letter", ["|", "<", "x", "\u6a21"])
def test_long_names_and_reasons_leave_it_short_enough(letter):
    assert len(markdown(judgements.thousand(name=letter * 300 + "{}", reason=letter * 300))) <= GITHUB_COMMENT_LIMIT
    alone = of(verdict(letter * 90_000, "regressed"), machine=letter * 90_000, judged=letter * 90_000)
    assert len(markdown(alone)) <= GITHUB_COMMENT_LIMIT


def test_no_name_becomes_markup():
    html = rendered(judgements.odd())
    outside = html.replace("<code>@somebody #12 https://example.org/x</code>", "")
    for mark in ("<img", "<a ", "<em>", "<s>", "</details>", "@somebody", "#12"):
        assert mark not in outside, mark
    assert "<code>a|b`c`&lt;img src=x onerror=alert(1)&gt;&amp;amp;&quot;q&quot;</code>" in html
    assert "<code>line break and tab</code>" in html


def test_commands_survive_as_they_are():
    html = rendered(judgements.everything())
    assert f"<code>python -m harness check --accept '{judgements.MLP}' --because \"…\"</code>" in unescape(html)
