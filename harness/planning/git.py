"""git, asked about the code that is measured: this project's own, or that of a user's repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.host.commands import CommandTimeout, run_command
from bench.host.running_code import CODE, ORIGIN, read_source_copy

ROOT = ORIGIN
THIS_FILE = ROOT / Path(__file__).resolve().relative_to(CODE)
NO_CHECKOUT = "not a git checkout"
GIT_LIMIT_S = 300.0
SHORT_COMMIT_LENGTH = 12
"""Characters of a commit's id in records."""

# Set by git for its hooks; they would direct our commands to another repository or index.
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


class CodeState(NamedTuple):
    """The commit of some code, and whether files differ from it; ``None`` where it is unknown."""

    commit: str | None = None
    changed_files: bool | None = None
    reason: str | None = None
    """Why it is unknown, with the remedy where there is one."""


@dataclass(frozen=True)
class Repository:
    """A folder that git is asked about, and a file that it must track there.

    An installed package may lie in an environment inside the user's own repository: that commit says nothing about it.
    """

    root: Path
    file: Path

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run git in the folder; its messages are English. What takes too long has failed, with that message.

        Raises:
            OSError: Where there is no git.
        """
        env = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
        command = ["git", "-C", str(self.root), "-c", "core.hooksPath=/dev/null", *arguments]
        try:
            return run_command(command, GIT_LIMIT_S, env={**env, "LC_ALL": "C"}, errors="surrogateescape")
        except CommandTimeout as problem:
            return subprocess.CompletedProcess(command, 1, "", f"fatal: {problem}\n")

    def problem(self) -> str | None:
        """Why git knows nothing of the file, with the remedy where there is one; ``None`` where it tracks it."""
        try:
            listed = self.git("ls-files", "--error-unmatch", "--", str(self.file))
        except OSError as problem:
            return f"git can't be run ({problem.strerror}); install it"
        if listed.returncode == 0:
            return None
        ordinary = "not a git repository" in listed.stderr or "did not match any file" in listed.stderr
        return self.untracked_reason if ordinary else self.failure_reason(listed)

    @property
    def untracked_reason(self) -> str:
        """What :meth:`problem` says where git does not track the file."""
        return NO_CHECKOUT

    def failure_reason(self, failed: subprocess.CompletedProcess[str]) -> str:
        """git's message in one line, with the remedy where it refuses a folder that belongs to another user (pure)."""
        refused = re.search(r"dubious ownership in repository at '(.*)'", failed.stderr)
        if refused:
            command = f"git config --global --add safe.directory {shlex.quote(refused[1])}"
            return f"git refuses {refused[1]}, which belongs to another user; if you trust it, run `{command}`"
        lines = [line.strip() for line in failed.stderr.splitlines() if line.strip()]
        lines = lines or [f"status {failed.returncode}"]
        message = next((line for line in lines if line.startswith("fatal:")), lines[-1])
        return f"git in {self.root}: {message.removeprefix('fatal: ')}"

    def differs(self) -> subprocess.CompletedProcess[str]:
        """git's list of files that differ from the commit, files that it does not know included."""
        return self.git("status", "--porcelain")

    def state(self) -> CodeState:
        """The commit that is checked out, and whether files differ from it."""
        problem = self.problem()
        if problem is not None:
            return CodeState(reason=problem)
        commit, differing = self.git("rev-parse", f"--short={SHORT_COMMIT_LENGTH}", "HEAD"), self.differs()
        if commit.returncode or differing.returncode:
            return CodeState(reason=self.failure_reason(commit if commit.returncode else differing))
        return CodeState(commit.stdout.strip(), self.is_changed(differing.stdout))

    def is_changed(self, status: str) -> bool:
        """Whether a list of :meth:`differs` names code (pure)."""
        return bool(status.strip())


OWN_REPOSITORY = Repository(ROOT, THIS_FILE)
"""The checkout that the running code is from, where it is from one."""


def read_code_state() -> CodeState:
    """The state of the code that runs; of a copy, that of its origin when it was copied."""
    copy = read_source_copy()
    if copy is not None:
        return CodeState(copy.commit and copy.commit[:SHORT_COMMIT_LENGTH], copy.changed_files, copy.commit_reason)
    return OWN_REPOSITORY.state()


def full_commit() -> str | None:
    """The full id of the commit of the code that runs; ``None`` where :func:`read_code_state` says why."""
    commit = None if OWN_REPOSITORY.problem() else OWN_REPOSITORY.git("rev-parse", "HEAD")
    return commit.stdout.strip() if commit is not None and commit.returncode == 0 else None
