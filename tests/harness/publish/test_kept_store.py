"""The history continues from the newest store of the default branch, and never silently begins again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.publish.github_artifacts import newest_run
from tests.support.gh import install
from tests.support.paths import ROOT


def kept(run, created_at, branch="main", expired=False, owner=1):
    place = {"id": run, "head_branch": branch, "head_repository_id": owner, "repository_id": 1}
    return {"created_at": created_at, "expired": expired, "workflow_run": place}


ARTIFACTS = "api repos/o/r/actions/artifacts?name=nightly-store"
API = {
    ARTIFACTS: {"artifacts": [kept(7, "2026-01-01T02:00:00Z")]},
    "api repos/o/r": {"default_branch": "main"},
}


@pytest.mark.parametrize(
    ("artifacts", "run"),
    [
        ([], None),
        ([kept(1, "2026-01-01T02:00:00Z"), kept(2, "2026-01-02T02:00:00Z")], 2),
        ([kept(2, "2026-01-02T02:00:00Z"), kept(1, "2026-01-01T02:00:00Z")], 2),
        ([kept(1, "2026-01-01T02:00:00Z"), kept(2, "2026-01-02T02:00:00Z", branch="experiment")], 1),
        ([kept(1, "2026-01-01T02:00:00Z"), kept(2, "2026-01-02T02:00:00Z", owner=666)], 1),
        ([kept(1, "2026-01-01T02:00:00Z"), kept(2, "2026-01-02T02:00:00Z", expired=True)], 1),
    ],
)
def test_the_newest_of_the_branch_counts(artifacts, run):
    assert newest_run(artifacts, "main") == run


@pytest.fixture
def restore(tmp_path):
    gh, env = install(tmp_path / "bin")

    def run():
        command = [sys.executable, "-S", "-m", "harness.publish.github_artifacts", "nightly-store", ".runs"]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    return gh, run


@pytest.mark.slow
def test_it_is_downloaded(restore):
    gh, run = restore
    gh.answer(API)
    done = run()
    assert done.returncode == 0, done.stderr
    assert gh.calls[-1] == ["run", "download", "7", "--name", "nightly-store", "--dir", ".runs"]


@pytest.mark.slow
def test_a_first_night_begins_a_history(restore):
    gh, run = restore
    gh.answer({**API, ARTIFACTS: {"artifacts": []}})
    done = run()
    assert (done.returncode, done.stdout) == (0, "main has no artifact nightly-store yet: a new history begins\n")
    assert all(call[0] == "api" for call in gh.calls)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [ARTIFACTS, "run download"])
def test_what_can_t_be_restored_ends_the_night(restore, broken):
    gh, run = restore
    gh.answer({**API, broken: {"fails": "HTTP 502"}})
    done = run()
    assert done.returncode != 0
    assert "HTTP 502" in done.stderr
