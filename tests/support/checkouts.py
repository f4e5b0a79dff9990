"""A repository of its own with a copy of the code, so that a test may commit to it."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("bench", "harness", "reports", "suites")


def _git(folder: Path, *arguments: str) -> str:
    named = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", "-C", str(folder), *named, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def _first_commit() -> Path:
    """A repository with one commit of the code, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="first-commit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("__pycache__/\n")
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "a state of the code")
    return folder


class Checkout:
    """The copy lies in ``path``; its programs make their temporary files in ``temporary``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "source"
        # Sockets are made there, and a test's own folder has a name that may be too long for theirs.
        self.temporary = Path(tempfile.mkdtemp(prefix="checkout-"))
        weakref.finalize(self, shutil.rmtree, self.temporary, ignore_errors=True)
        self.env = {**os.environ, "PYTHONPATH": str(self.path), "TMPDIR": str(self.temporary)}
        # Of the files' times too, by which git knows what is unchanged.
        shutil.copytree(_first_commit(), self.path)

    def git(self, *arguments: str) -> str:
        return _git(self.path, *arguments)

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a state of the code")
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "--short=12", "HEAD")

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.path / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run a Python program over the copy."""
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, cwd=self.path.parent, env=self.env, capture_output=True, text=True, check=False)

    def worktrees(self) -> list[str]:
        """Beside the first, and what lies where they are made."""
        listed = [line for line in self.git("worktree", "list", "--porcelain").splitlines() if "worktree " in line]
        return listed[1:] + [path.name for path in self.temporary.glob("scaling-base-*")]
