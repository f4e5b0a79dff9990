"""What git knows of the code that runs, or why it knows nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from harness.planning import git
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from harness.planning.git import read_code_state
print(json.dumps(read_code_state()))
"""


@pytest.fixture
def copy(tmp_path):
    """``copy(*commands)``: what a copy of the modules knows of itself, after git ran with each of these arguments."""
    folder = tmp_path / "it's code"
    target = folder / "harness" / "planning"
    target.mkdir(parents=True)
    host = folder / "bench" / "host"
    host.mkdir(parents=True)
    for package in (target.parent, target, host.parent, host):
        (package / "__init__.py").touch()
    shutil.copy(ROOT / "harness" / "planning" / "git.py", target)
    for module in ("running_code", "commands", "bounded", "processes"):
        shutil.copy(ROOT / "bench" / "host" / f"{module}.py", host)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PYTHONPATH": str(folder)}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # The copy has no .gitignore.

    def read(*commands: str, **variables: str):
        for command in commands:
            subprocess.run(["git", *command.split()], cwd=folder, env=env, check=True, capture_output=True)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env={**env, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        commit, changed, reason = json.loads(done.stdout)
        return git.CodeState(commit, changed, reason)

    read.folder = folder
    return read


COMMITTED = (
    "init --quiet",
    "add --all",
    "-c user.name=test -c user.email=test@example.org commit --quiet --message first",
)


def test_the_commit_and_whether_files_differ(copy):
    found = copy(*COMMITTED)
    assert (len(found.commit), found.changed_files, found.reason) == (12, False, None)
    (copy.folder / "more.py").write_text("")
    assert copy() == found._replace(changed_files=True)


def test_a_repository_of_another_user_is_named_with_git_s_own_remedy(copy):
    """As in a container whose checkout was mounted, or under sudo. Git's own tests use the variable."""
    found = copy(*COMMITTED, GIT_TEST_ASSUME_DIFFERENT_OWNER="1", LANGUAGE="de", LC_ALL="de_DE.UTF-8")
    assert (found.commit, found.changed_files) == (None, None)
    quoted = str(copy.folder).replace("'", "'\"'\"'")
    assert found.reason == (
        f"git refuses {copy.folder}, which belongs to another user; if you trust it, run "
        f"`git config --global --add safe.directory '{quoted}'`"
    )


def test_a_repository_that_git_s_hooks_name_is_not_taken_for_ours(copy, tmp_path):
    found = copy(*COMMITTED)
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "users")], check=True)
    assert copy(GIT_DIR=str(tmp_path / "users" / ".git"), GIT_WORK_TREE=str(tmp_path / "users")) == found


def test_without_a_repository_or_inside_another(copy):
    assert copy() == (None, None, git.NO_CHECKOUT)
    assert copy("init --quiet") == (None, None, git.NO_CHECKOUT)


def test_without_git(copy, tmp_path):
    assert copy(PATH=str(tmp_path)).reason == "git can't be run (No such file or directory); install it"


def test_a_broken_repository(copy):
    copy(*COMMITTED)
    (copy.folder / ".git" / "config").write_text("[core\n")
    assert "bad config line 1" in copy().reason
