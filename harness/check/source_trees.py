"""The running checkout, and another commit of it in a temporary worktree."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.core.frozen_model import FrozenModel
from harness.errors import UsageError, sigterm_as_interrupt

ROOT = Path(__file__).resolve().parent.parent.parent
WORKTREE_PREFIX = "scaling-base-"
LOCK_FILE = "lock"

# Set by git for its hooks; they would direct our commands to another repository or index.
GIT_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


SHORT_COMMIT_LENGTH = 12
"""Characters of a commit's id in records."""


class SourceTree(FrozenModel):
    """Code in a folder: ``bench``, ``reports`` and ``harness`` lie in :attr:`path`."""

    path: Path
    commit: str
    changed_files: bool = False
    """Whether files differ from the commit."""

    @property
    def title(self) -> str:
        return f"{self.commit} with changed files" if self.changed_files else self.commit


def head_tree() -> SourceTree:
    """The running code. Raises :class:`UsageError` where it is not in a git checkout."""
    _check_checkout()
    changed = bool(_git("status", "--porcelain"))
    return SourceTree(
        path=ROOT, commit=_git("rev-parse", f"--short={SHORT_COMMIT_LENGTH}", "HEAD"), changed_files=changed
    )


@contextmanager
def checked_out(rev: str) -> Iterator[SourceTree]:
    """Commit ``rev`` of this repository in a worktree that is removed at the end of the block.

    A killed process leaves it behind; the next call removes it. Raises :class:`UsageError`.
    """
    commit = find_commit(rev)
    _clear_leftovers()
    with sigterm_as_interrupt():
        folder = Path(tempfile.mkdtemp(prefix=WORKTREE_PREFIX)).resolve()
        try:
            # Held until this process ends: whoever can take the lock may remove the worktree.
            with (folder / LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                checkout = folder / "tree"
                _git("worktree", "add", "--quiet", "--detach", str(checkout), commit)
                inside = _git("rev-parse", "--show-prefix")
                yield SourceTree(
                    path=checkout / inside, commit=_git("rev-parse", f"--short={SHORT_COMMIT_LENGTH}", commit)
                )
        finally:
            _remove(folder)


def find_commit(rev: str) -> str:
    """The full id of the commit that ``rev`` names. Raises :class:`UsageError`."""
    _check_checkout()
    git_result = _run_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if git_result.returncode == 0:
        return git_result.stdout.strip()
    if _git("rev-parse", "--is-shallow-repository") == "true":
        raise UsageError(
            f"--base-rev {rev}: not in this shallow clone; run `git fetch --unshallow` first "
            "(GitHub Actions: `fetch-depth: 0` of actions/checkout)"
        )
    raise UsageError(f"--base-rev {rev}: {ROOT} has no such commit; see `git log`, or `git fetch` it first")


def short_commit(rev: str) -> str:
    """The id of a commit as in records. Raises :class:`UsageError`."""
    return find_commit(rev)[:SHORT_COMMIT_LENGTH]


def _check_checkout() -> None:
    # A package in an environment inside another repository is not tracked there.
    try:
        git_result = _run_git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
    except FileNotFoundError:
        raise UsageError("pairs with another commit need git, which is not installed; install it") from None
    if git_result.returncode != 0:
        git_message = [
            line for line in git_result.stderr.splitlines() if line.startswith("fatal:") and "not a git" not in line
        ]
        detail = f" ({git_message[0].removeprefix('fatal: ')})" if git_message else ""
        raise UsageError(
            f"pairs with another commit need a git checkout, which {ROOT} is not{detail}; run the harness from a clone"
        )


def _run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in GIT_HOOK_VARIABLES}
    # In a session of its own: Ctrl-C must not interrupt git while it cleans up.
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", "core.hooksPath=/dev/null", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def _git(*arguments: str) -> str:
    """git's output. Raises :class:`UsageError` with its error message."""
    done = _run_git(*arguments)
    if done.returncode != 0:
        git_message = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise UsageError(f"git {arguments[0]} in {ROOT}: {git_message.removeprefix('fatal: ')}")
    return done.stdout.strip()


def _remove(folder: Path) -> None:
    _run_git("worktree", "remove", "--force", str(folder / "tree"))
    shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers() -> None:
    """Remove our worktrees whose process has ended without doing so."""
    for line in _git("worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        if not line.startswith("worktree ") or not folder.name.startswith(WORKTREE_PREFIX):
            continue
        if not folder.exists():
            _remove(folder)
            continue
        with suppress(OSError), (folder / LOCK_FILE).open() as lock:
            if _is_free(lock):
                _remove(folder)


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
