"""Workflows, templates and texts: linters find nothing, commands exist, and shell steps do what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.sweep.plan import SuiteRequest, plan_sweep
from tests.support.command_lines import GITLAB, WrongCommand, check_commands, commands, shell_lines, workflow_steps
from tests.support.gh import install
from tests.support.paths import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = [*sorted((GITHUB / "workflows").glob("*.yml")), *sorted(GITLAB.parent.glob("github-*.yml"))]
"""This project's own, and the templates for users' repositories."""
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
assert WORKFLOWS
assert FORMS


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def step(workflow: str, name: str) -> str:
    return next(found["run"] for found in workflow_steps(GITHUB / "workflows" / workflow) if found.get("name") == name)


# Linters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("zizmor", ["--offline", "--persona=auditor", *map(str, WORKFLOWS)]),
        ("check-jsonschema", ["--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]),
        ("check-jsonschema", ["--builtin-schema", "vendor.github-issue-forms", *map(str, FORMS)]),
        (
            "check-jsonschema",
            ["--builtin-schema", "vendor.github-issue-config", str(GITHUB / "ISSUE_TEMPLATE" / "config.yml")],
        ),
        ("check-jsonschema", ["--builtin-schema", "vendor.gitlab-ci", str(GITLAB)]),
    ],
    ids=["zizmor", "GitHub's workflows", "GitHub's issue forms", "GitHub's issue configuration", "GitLab's pipelines"],
)
def test_linters_find_nothing(program, arguments):
    if shutil.which(program) is None:
        assert not os.environ.get("CI"), f"{program} belongs to the dependency group `test`"
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
    for found in workflow_steps(path):
        assert "${{" not in found.get("run", "")


def test_one_action_is_one_commit_everywhere():
    used = {found["uses"] for path in WORKFLOWS for found in workflow_steps(path) if "uses" in found}
    assert used
    names = [name.partition("@")[0].split("/")[:2] for name in used]
    commits = {name.partition("@")[2] for name in used}
    assert len(commits) == len({tuple(name) for name in names})
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)


def test_every_environment_of_the_test_command_is_described():
    tox = (ROOT / "tox.ini").read_text()
    environments = re.search(r"^env_list = (.+)$", tox, re.MULTILINE)[1].split(", ")
    assert "docs" in environments
    for name in environments:
        assert re.search(rf"^\[testenv:{name}\]\ndescription = \S", tox, re.MULTILINE), name


# Commands


@pytest.mark.parametrize("path", [*WORKFLOWS, GITLAB], ids=lambda path: path.name)
def test_commands_and_their_options_exist(path):
    assert path.name == "ci.yml" or list(commands(shell_lines(path)))
    check_commands(path)


CORRECTED = {
    "python -m harness swep": ("swep", "python -m harness sweep"),
    "python -m harness sweep --bakends ddp": ("--bakends", "python -m harness sweep --backends ddp"),
    "python -m harness sweep --suite nightly": ("--suite", "python -m harness sweep nightly"),
    "python -m harness sweep nigthly": ("nigthly", "scaling-harness sweep nightly"),
    "python -m harness sweep --set ddp.bucket=1": ("ddp.bucket", "scaling-harness sweep --set ddp.bucket_cap_mb=1"),
    "python -m harness sweep --set site.ddp.x=1": (
        "site.ddp",
        "scaling-harness sweep --set backend.ddp.transport=gloo",
    ),
    "tox run -e nighty": ("nighty", "tox run -e nightly"),
    "tox run -e sweep -- --bakends ddp": ("--bakends", "tox run -e sweep -- --backends ddp"),
    "tox run -e nightly -- nigthly": ("nigthly", "tox run -e nightly -- nightly"),
    "echo and && python3 -m harness.publish.github_issues verdict.json --run URL --rnu": (
        "--rnu",
        "echo and && python3 -m harness.publish.github_issues verdict.json --run URL",
    ),
    "python -m harness.ticket": ("harness.ticket", "python -m harness.publish.github_issues verdict.json --run URL"),
    "python -m harness.errors": ("harness.errors", "python -m harness list"),
}


@pytest.mark.parametrize("line", CORRECTED)
def test_a_command_that_does_not_exist_is_named(line, tmp_path):
    word, corrected = CORRECTED[line]
    path = tmp_path / "text.md"
    path.write_text(f"```sh\n{line}\n```\n")
    with pytest.raises(WrongCommand, match=re.escape(word)):
        check_commands(path)
    path.write_text(f"text\n\n    {corrected}\n")
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


@pytest.mark.slow
@pytest.mark.parametrize(("workflow", "folder"), [("nightly.yml", "nightly"), ("pull-request.yml", "pairs")])
def test_the_summary_is_the_verdict_or_says_that_there_is_none(shell, workflow, folder):
    _, here, run = shell
    assert "There is no verdict" in run(step(workflow, "Write the summary"))
    (here / ".runs" / folder).mkdir(parents=True)
    (here / ".runs" / folder / "verdict.md").write_text("## regressed\n")
    assert run(step(workflow, "Write the summary")).endswith("## regressed\n")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "method"), [("", "POST"), ("11\n12\n", "PATCH")])
def test_a_pull_request_gets_one_comment(shell, answer, method):
    gh, here, run = shell
    gh.answer({"api --paginate": answer})
    (here / "pairs").mkdir()
    (here / "pairs" / "verdict.md").write_text("## passed\n")
    run(step("pull-request.yml", "Write or update the comment"), NUMBER="5", GH_REPO="o/r", MARKER="<!-- m -->")
    place = "repos/o/r/issues/comments/11" if method == "PATCH" else "repos/o/r/issues/5/comments"
    assert gh.calls[-1][:4] == ["api", "--method", method, place]
    assert (here / "comment.md").read_text() == "<!-- m -->\n## passed\n"


@pytest.mark.slow
def test_a_night_without_a_verdict_touches_no_issue(shell):
    gh, _, run = shell
    run(step("nightly.yml", "Open, update and close issues"), RUN_URL="https://example.org")
    assert gh.calls == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "accepted"), [("v0.1.0", True), ("v9.9.9", False), ("v0.1.0-rc1", False)], ids=["same", "other", "suffix"]
)
def test_a_release_carries_the_version_of_its_tag(shell, tag, accepted):
    _, here, run = shell
    (here / "pyproject.toml").write_text('[project]\nname = "scaling-harness"\nversion = "0.1.0"\n')
    if accepted:
        run(step("release.yml", "Compare the tag with the version"), TAG=tag)
    else:
        with pytest.raises(subprocess.CalledProcessError):
            run(step("release.yml", "Compare the tag with the version"), TAG=tag)


# Templates for users' repositories


def test_the_template_of_a_configuration_is_one(tmp_path, monkeypatch):
    shutil.copy(GITLAB.parent / "scaling.toml", tmp_path)
    (tmp_path / "train.py").write_text("pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CONFIG", str(tmp_path / "scaling.toml"))
    planned = plan_sweep(SuiteRequest("training"))
    cases = [*planned.plan.cases, *(skip.case for skip in planned.plan.skips)]
    assert [(case.program.name, case.backend, case.ranks) for case in cases] == [
        ("train.py", "torchrun", 1),
        ("train.py", "torchrun", 2),
    ]


def test_templates_install_one_version_which_is_this_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    required = [
        re.findall(r"SCALING_HARNESS: (\S+)", path.read_text())
        for path in (GITLAB, *GITLAB.parent.glob("github-*.yml"))
    ]
    assert required == [[f"scaling-harness=={version}"]] * 3
