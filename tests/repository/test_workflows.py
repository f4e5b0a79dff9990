"""Workflows and texts name only what exists, linters find nothing in them, and their shell steps do what they say."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from harness.cli.app import app
from harness.planning.suite import suite_names
from tests.support.gh import install
from tests.support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITLAB = ROOT / "docs" / "ci" / "gitlab-ci.yml"
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
OPERATORS = ";&|<>"
CONTINUED = re.compile(r"\\\n\s*")


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


def step(workflow: str, name: str) -> str:
    return next(found["run"] for found in steps(ROOT / ".github" / "workflows" / workflow) if found.get("name") == name)


# Linters


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("zizmor", ["--offline", "--persona=auditor", *map(str, WORKFLOWS)]),
        ("check-jsonschema", ["--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]),
        ("check-jsonschema", ["--builtin-schema", "vendor.gitlab-ci", str(GITLAB)]),
    ],
    ids=["zizmor", "GitHub's schema", "GitLab's schema"],
)
def test_linters_find_nothing(program, arguments):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not on the PATH")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_have_a_timeout_and_only_the_permissions_they_name(path):
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert job["permissions"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_is_pasted_into_a_shell(path):
    for found in steps(path):
        assert "${{" not in found.get("run", "")


def test_one_action_is_one_commit_everywhere():
    used = {found["uses"] for path in WORKFLOWS for found in steps(path) if "uses" in found}
    names = [name.partition("@")[0].split("/")[:2] for name in used]
    commits = {name.partition("@")[2] for name in used}
    assert len(commits) == len({tuple(name) for name in names})
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)


# Commands


def lines(path: Path) -> list[str]:
    """Shell lines of a workflow, or the indented ones of a text."""
    if path.suffix == ".md":
        return [line for line in path.read_text().splitlines() if line.startswith("    ")]
    if path == GITLAB:
        jobs = [job for job in read(path).values() if isinstance(job, dict)]
        return [line for job in jobs for key in ("before_script", "script") for line in job.get(key, [])]
    return [line for found in steps(path) for line in CONTINUED.sub(" ", found.get("run", "")).splitlines()]


def commands(path: Path) -> Iterator[list[str]]:
    """What is called in them, each as words up to the shell's next operator."""
    for line in lines(path):
        if "python" not in line and "tox" not in line:
            continue
        call: list[str] = []
        words = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
        words.whitespace_split = True
        for word in [*words, ";"]:
            if set(word) <= set(OPERATORS):
                if call:
                    yield call
                call = []
            else:
                call.append(word)


def check_commands(path: Path) -> None:
    """Parse each call as its program would, and run nothing."""
    for call in commands(path):
        check(call)


def check(call: list[str]) -> None:
    if call[:2] == ["tox", "run"]:
        environment, separator, rest = call[call.index("-e") + 1], *(" ".join(call).partition(" -- ")[1:])
        check_tox(environment.split(","), shlex.split(rest) if separator else [])
    elif call[0] in ("python", "python3") and call[1] == "-m":
        check_module(call[2], call[3:])


def check_tox(environments: list[str], arguments: list[str]) -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    for environment in environments:
        for line in tox[f"testenv:{environment}"]["commands"].strip().splitlines():
            called = shlex.split(line)
            if called[:3] == ["python", "-m", "harness"]:
                at = called.index("{posargs}")
                check_module("harness", called[3:at] + arguments + called[at + 1 :])


def check_module(module: str, arguments: list[str]) -> None:
    if module == "harness":
        command = get_command(app).commands[arguments[0]]
        asked = command.make_context(arguments[0], arguments[1:]).params
        suite = asked.get("suite")
        assert suite is None or suite.endswith(".toml") or suite in suite_names(), suite
    elif module.startswith("harness."):
        found = importlib.import_module(module)
        if parser := getattr(found, "parser", None):
            parser().parse_args(arguments)


@pytest.mark.parametrize("path", [*WORKFLOWS, GITLAB, *TEXTS], ids=lambda path: path.name)
def test_commands_and_their_options_exist(path):
    check_commands(path)


@pytest.mark.parametrize(
    "line",
    [
        "python -m harness swep",
        "python -m harness sweep --bakends ddp",
        "python -m harness sweep --suite nightly",
        "tox run -e nighty",
        "tox run -e sweep -- --bakends ddp",
        "tox run -e nightly -- nigthly",
        "echo and && python3 -m harness.publish.github_issues verdict.json --rnu URL",
        "python -m harness.ticket",
    ],
)
def test_a_command_that_does_not_exist_is_found(line, tmp_path):
    path = tmp_path / "text.md"
    path.write_text(f"    {line}\n")
    with pytest.raises((Exception, SystemExit)):
        check_commands(path)


# Shell steps


@pytest.fixture
def shell(tmp_path):
    """Runs a step as GitHub does, with a `gh` that answers what the test says."""
    gh, env = install(tmp_path / "bin")
    here = tmp_path / "here"
    here.mkdir()
    summary = tmp_path / "summary.md"

    def run(script: str, **more: str) -> str:
        variables = {**env, "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_RUN_ID": "7", **more}
        subprocess.run(["bash", "-e", "-c", script], cwd=here, env=variables, check=True, capture_output=True)
        return summary.read_text() if summary.exists() else ""

    return gh, here, run


@pytest.mark.parametrize(("workflow", "folder"), [("nightly.yml", "nightly"), ("pull-request.yml", "pairs")])
def test_the_summary_is_the_verdict_or_says_that_there_is_none(shell, workflow, folder):
    _, here, run = shell
    assert "There is no verdict" in run(step(workflow, "Write the summary"))
    (here / ".runs" / folder).mkdir(parents=True)
    (here / ".runs" / folder / "verdict.md").write_text("## regressed\n")
    assert run(step(workflow, "Write the summary")).endswith("## regressed\n")


@pytest.mark.parametrize(("answer", "method"), [("", "POST"), ("11\n12\n", "PATCH")])
def test_a_pull_request_gets_one_comment(shell, answer, method):
    gh, here, run = shell
    gh.answer({"api --paginate": answer})
    (here / "pairs").mkdir()
    (here / "pairs" / "verdict.md").write_text("## passed\n")
    run(step("pull-request.yml", "Write one comment, or write it anew"), NUMBER="5", GH_REPO="o/r", MARKER="<!-- m -->")
    place = "repos/o/r/issues/comments/11" if method == "PATCH" else "repos/o/r/issues/5/comments"
    assert gh.calls[-1][:4] == ["api", "--method", method, place]
    assert (here / "comment.md").read_text() == "<!-- m -->\n## passed\n"


def test_a_night_without_a_verdict_touches_no_issue(shell):
    gh, _, run = shell
    run(step("nightly.yml", "Open, update and close issues"), RUN_URL="https://example.org")
    assert gh.calls == []
