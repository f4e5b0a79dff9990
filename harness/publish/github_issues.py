"""One GitHub issue for each regression: opened when it is found, updated, and closed when the curve passes again.

    python -m harness.publish.github_issues .runs/nightly/verdict.json --run https://github.com/OWNER/NAME/actions/runs/1

Needs GitHub's command line `gh` and nothing but the standard library: it runs in a job that may write issues, in which
nothing else is installed.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.text import one_line
from harness.defects import install_hooks
from reports.formats.markdown_text import text

LABEL = "scaling-regression"
MARKER = re.compile(r"<!-- scaling-regression (\{.*\}) -->\s*\Z")
MAX_TITLE_LENGTH, MAX_SAID_LENGTH = 200, 1000
PASSING = {"pass", "improved"}

Document = Mapping[str, Any]
"""A document of ``check --json``."""


@dataclass(frozen=True)
class Issue:
    """An open issue about a curve. ``series``: name and metric of the regressed series."""

    number: int
    curve: str
    series: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Action:
    """A call of ``gh``, with its standard input."""

    arguments: tuple[str, ...]
    body: str = ""


def read_issues(issues: Iterable[Mapping[str, Any]]) -> list[Issue]:
    """The issues that this module has opened, the oldest first; other issues with the label are ignored."""
    own_issues = []
    for issue in issues:
        if marker := MARKER.search(issue["body"] or ""):
            # Anybody may have edited it; then another issue is opened.
            with suppress(ValueError, KeyError, TypeError):
                data = json.loads(marker[1])
                series = frozenset((str(name), str(metric)) for name, metric in data["series"])
                own_issues.append(Issue(issue["number"], str(data["curve"]), series))
    return sorted(own_issues, key=lambda issue: issue.number)


def plan_actions(document: Document, open_issues: Sequence[Issue], run: str) -> list[Action]:
    """The calls for a night. The issue of a curve that failed, is missing or has no clear verdict stays as it is."""
    issue_by_curve = {issue.curve: issue for issue in reversed(open_issues)}
    regressed: dict[str, list[Mapping[str, Any]]] = {}
    for finding in document["findings"]:
        if finding["status"] == "regressed":
            regressed.setdefault(finding["curve"], []).append(finding)
    actions = []
    for curve, findings in regressed.items():
        body = _body(document, curve, findings, run)
        if curve in issue_by_curve:
            actions.append(Action(("issue", "edit", str(issue_by_curve[curve].number), "--body-file", "-"), body))
        else:
            title = one_line(f"Regressed: {curve}", MAX_TITLE_LENGTH)
            actions.append(Action(("issue", "create", "--label", LABEL, "--title", title, "--body-file", "-"), body))
    statuses = {(verdict["name"], verdict["metric"]): verdict["status"] for verdict in document["verdicts"]}
    for issue in open_issues:
        if (
            issue.curve not in regressed
            and issue.series
            and {statuses.get(series) for series in issue.series} <= PASSING
        ):
            comment = f"Passes again on night {text(document['judged'])}: {run}"
            actions.append(Action(("issue", "close", str(issue.number), "--comment", comment)))
    return actions


def _body(document: Document, curve: str, findings: Sequence[Mapping[str, Any]], run: str) -> str:
    summary = "\n".join(f"- {finding['kind']}: {text(finding['said'], MAX_SAID_LENGTH)}" for finding in findings)
    against = f", against {text(document['base_commit'])}" if document["base_commit"] else ""
    command = ["python", "-m", "harness", "check", *document.get("again", ()), "--accept", curve, "--because", "…"]
    accept = one_line(shlex.join(command))
    marker = json.dumps({"curve": curve, "series": sorted(_series(document, findings))})
    # No name may end the HTML comment that holds the marker.
    hidden = marker.replace("-", "\\u002d").replace(">", "\\u003e")
    return f"""{summary}

Night {text(document["judged"])}, commit {text(document["commit"] or "unknown")}{against}. Report and log: {run}

Every night on which it is found updates this text, and the first on which the curve passes closes the issue. If the
change is intended:

    {accept}

<!-- scaling-regression {hidden} -->
"""


def _series(document: Document, findings: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The series that must pass before the issue is closed: the regressed ones of the findings, else all of them."""
    names = {name for finding in findings for name in finding["verdicts"]}
    finding_verdicts = [verdict for verdict in document["verdicts"] if verdict["name"] in names]
    regressed_verdicts = [
        verdict for verdict in finding_verdicts if verdict["status"] == "regressed"
    ] or finding_verdicts
    return {(verdict["name"], verdict["metric"]) for verdict in regressed_verdicts}


def gh(arguments: Sequence[str], body: str = "") -> str:
    """The output of ``gh``, which prints its errors itself. Raises :class:`CalledProcessError`."""
    done = subprocess.run(["gh", *arguments], input=body, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def parser() -> argparse.ArgumentParser:
    argument_parser = argparse.ArgumentParser(
        prog="python -m harness.publish.github_issues", description=(__doc__ or "").partition("\n")[0]
    )
    argument_parser.add_argument("verdict", type=Path, help="a document of `check --json`")
    argument_parser.add_argument("--run", required=True, metavar="URL", help="page of the run, with report and log")
    return argument_parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    document = json.loads(options.verdict.read_text())
    list_options = ("--label", LABEL, "--state", "open", "--limit", "1000", "--json", "number,body")
    actions = plan_actions(document, read_issues(json.loads(gh(("issue", "list", *list_options)))), options.run)
    if any(action.arguments[1] == "create" for action in actions):
        gh(("label", "create", LABEL, "--force", "--color", "B60205", "--description", "Found by the nightly check"))
    for action in actions:
        print(shlex.join(("gh", *action.arguments)), gh(action.arguments, action.body).strip())
    return 0


if __name__ == "__main__":
    install_hooks()
    sys.exit(main())
