"""One issue per regression, whatever the curve is called, and none closed by a night that can't tell."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.publish.github_issues import LABEL, Issue, plan_actions, read_issues
from tests.support.gh import install
from tests.support.paths import ROOT

RUN = "https://example.org/o/r/actions/runs/7"
CURVE = "mlp/ddp-gloo --> <x>"
SERIES = frozenset({(f"{CURVE} · 2 ranks", "step")})


def night(status="regressed", *, finding=True, **changes):
    """The document of a night: one curve of two rank counts, of which the larger one is as told."""
    verdicts = [
        {"name": f"{CURVE} · 1 rank", "metric": "step", "status": "pass"},
        {"name": f"{CURVE} · 2 ranks", "metric": "step", "status": status},
        {"name": f"{CURVE} · 2 ranks", "metric": "energy", "status": "incomparable"},
    ]
    found = {
        "curve": CURVE,
        "kind": "lost scaling",
        "status": status,
        "said": "10 % slower, says @somebody",
        "verdicts": [verdict["name"] for verdict in verdicts],
    }
    known = {"judged": "n2", "commit": "abc", "base_commit": None, "findings": [found] if finding else []}
    return {**known, "verdicts": verdicts, **changes}


def words(actions):
    return [action.arguments[:3] for action in actions]


def test_a_regression_opens_one_issue_that_is_recognised_again():
    (action,) = plan_actions(night(), [], RUN)
    assert action.arguments[:6] == ("issue", "create", "--label", LABEL, "--title", f"Regressed: {CURVE}")
    assert "lost scaling: 10 % slower" in action.body
    assert RUN in action.body
    assert "@somebody" not in action.body
    assert f"python -m harness check --accept '{CURVE}'" in action.body
    (ticket,) = read_issues([{"number": 3, "body": action.body}])
    assert ticket == Issue(3, CURVE, SERIES)


def test_the_marker_survives_the_line_ends_of_a_browser():
    body = plan_actions(night(), [], RUN)[0].body.replace("\n", "\r\n")
    assert read_issues([{"number": 3, "body": body}]) == [Issue(3, CURVE, SERIES)]


def test_two_findings_of_a_curve_share_an_issue():
    document = night()
    document["findings"].append({**document["findings"][0], "kind": "more memory", "said": "20 % more"})
    (action,) = plan_actions(document, [], RUN)
    assert "lost scaling" in action.body
    assert "more memory: 20 % more" in action.body


def test_found_again_it_is_rewritten_and_the_oldest_of_two_is_kept():
    tickets = [Issue(3, CURVE, SERIES), Issue(9, CURVE, SERIES)]
    assert words(plan_actions(night(), tickets, RUN)) == [("issue", "edit", "3")]


@pytest.mark.parametrize(
    ("status", "closed"),
    [
        ("pass", True),
        ("improved", True),
        ("suspect", False),
        ("inconclusive", False),
        ("incomparable", False),
        ("missing", False),
        ("failed", False),
        ("new", False),
    ],
)
def test_only_a_pass_closes_it(status, closed):
    actions = plan_actions(night(status, finding=False), [Issue(3, CURVE, SERIES)], RUN)
    assert words(actions) == ([("issue", "close", "3")] if closed else [])


def test_a_series_that_is_gone_closes_nothing():
    assert plan_actions(night("pass", finding=False, verdicts=[]), [Issue(3, CURVE, SERIES)], RUN) == []
    assert plan_actions(night("pass", finding=False), [Issue(3, CURVE, frozenset())], RUN) == []


def test_people_s_issues_under_the_label_are_left_alone():
    assert read_issues([{"number": 1, "body": "slow since Monday"}, {"number": 2, "body": ""}]) == []


@pytest.mark.slow
def test_the_calls_of_gh(tmp_path):
    gh, env = install(tmp_path / "bin")
    gh.answer({"issue list": [{"number": 4, "body": "slow since Monday"}], "issue create": "https://example.org/5"})
    (tmp_path / "verdict.json").write_text(json.dumps(night()))
    command = [
        sys.executable,
        "-S",
        "-m",
        "harness.publish.github_issues",
        str(tmp_path / "verdict.json"),
        "--run",
        RUN,
    ]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [call[:2] for call in gh.calls] == [["issue", "list"], ["label", "create"], ["issue", "create"]]
    assert CURVE in gh.calls[2][5]
    assert read_issues([{"number": 1, "body": gh.bodies[2]}])[0].curve == CURVE
    assert "https://example.org/5" in done.stdout


@pytest.mark.slow
def test_a_gh_that_fails_fails_the_job(tmp_path):
    gh, env = install(tmp_path / "bin")
    gh.answer({"issue list": {"fails": "HTTP 403"}})
    (tmp_path / "verdict.json").write_text(json.dumps(night()))
    command = [sys.executable, "-m", "harness.publish.github_issues", str(tmp_path / "verdict.json"), "--run", RUN]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HTTP 403" in done.stderr


def test_a_hostile_night_is_text(capfd):
    hostile = "x\nSee @somebody, #12 and GH-3: <img src=x> [m](http://evil.example) www.evil.example \x1b[2J\u202e `c`"
    document = night(judged=hostile, commit=hostile, base_commit=hostile)
    for place in (*document["findings"], *document["verdicts"]):
        place.update({name: hostile for name in ("curve", "name", "said") if name in place})
    (opened,) = plan_actions(document, [], RUN)
    title = opened.arguments[5]
    assert title.startswith("Regressed: x See")
    passed = night("pass", finding=False, judged=hostile)
    (closed,) = plan_actions(passed, [Issue(3, CURVE, SERIES)], RUN)
    for shown in (title, *closed.arguments, *opened.body.splitlines()):
        assert shown.replace("\u200b", "").isprintable()
    text = "\n".join(line for line in opened.body.splitlines() if not line.startswith(("    ", "<!--")))
    for body in (text, closed.arguments[-1].replace(RUN, "")):
        for mark in ("<img", "](", "@somebody", "#12", "GH-3", "www.", "://", "`", "\nSee"):
            assert mark not in body.replace(RUN, "")
    assert len([line for line in opened.body.splitlines() if line.startswith("    python -m harness check")]) == 1


@pytest.mark.parametrize("marker", ["{}", "{x}", '{"curve": "a"}', '{"curve": "a", "series": 5}', '{"series": [[1]]}'])
def test_a_marker_that_somebody_has_edited_is_no_issue_of_ours(marker):
    assert read_issues([{"number": 1, "body": f"text\n<!-- scaling-regression {marker} -->"}]) == []
    assert read_issues([{"number": 1, "body": None}]) == []
