"""Another commit's code beside the running code: found, checked out, and cleared away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkouts import Checkout

CHECK_OUT = """
import sys
from harness.errors import UsageError
from harness.check.source_trees import checked_out, head_tree
try:
    with checked_out(sys.argv[1]) as tree:
        print(head_tree().title, tree.commit, (tree.path / "bench" / "mark").read_text())
        exec(sys.argv[2])
except UsageError as problem:
    sys.exit(f"error: {problem}")
"""


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def marked(checkout: Checkout, mark: str) -> str:
    (checkout.path / "bench" / "mark").write_text(mark)
    return checkout.commit()


def error_of(checkout: Checkout, rev: str) -> str:
    done = checkout.run(CHECK_OUT, rev, "")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_a_commit_is_checked_out_and_gone_afterwards(checkout):
    base, head = marked(checkout, "before"), marked(checkout, "after")
    (checkout.path / "bench" / "mark").write_text("not committed")
    done = checkout.run(CHECK_OUT, "HEAD~1", "")
    assert done.stdout == f"{head} with changed files {base} before\n", done.stderr
    assert checkout.worktrees() == []


@pytest.mark.parametrize(
    "ending",
    ["raise RuntimeError", "raise KeyboardInterrupt", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"],
)
def test_it_is_gone_however_the_block_ends(checkout, ending):
    head = marked(checkout, "only")
    done = checkout.run(CHECK_OUT, "HEAD", ending)
    assert done.stdout == f"{head} {head} only\n"
    assert done.returncode != 0
    assert checkout.worktrees() == []


def test_what_a_killed_one_left_is_cleared_by_the_next_and_a_living_one_kept(checkout):
    marked(checkout, "only")
    checkout.run(CHECK_OUT, "HEAD", "import os; os._exit(9)")
    assert len(checkout.worktrees()) == 2
    other = f"import subprocess; subprocess.run([sys.executable, '-c', {CHECK_OUT!r}, 'HEAD', 'pass'], check=True)"
    done = checkout.run(CHECK_OUT, "HEAD", f"{other}; assert tree.path.is_dir()")
    assert done.returncode == 0, done.stderr
    assert checkout.worktrees() == []


def test_a_wrong_commit_is_one_line_with_the_remedy(checkout):
    assert error_of(checkout, "nonsense").startswith("error: --base-rev nonsense: ")
    assert "has no such commit; see `git log`" in error_of(checkout, "--help")


def test_a_shallow_clone_says_how_to_deepen_it(checkout, tmp_path):
    before = checkout.head()
    marked(checkout, "after")
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{checkout.path}", str(shallow)], check=True)
    checkout.env["PYTHONPATH"] = str(shallow)
    assert "not in this shallow clone; run `git fetch --unshallow` first" in error_of(checkout, before)


def test_code_that_is_no_checkout_says_so(checkout, tmp_path):
    shutil.rmtree(checkout.path / ".git")
    assert "need a git checkout, which " in error_of(checkout, "HEAD")
    # Nor is what was installed somewhere inside another's repository.
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert "need a git checkout, which " in error_of(checkout, "HEAD")
    checkout.env["PATH"] = str(Path("/nowhere"))
    assert "need git: git can't be run (No such file or directory); install it" in error_of(checkout, "HEAD")
