"""The running checkout, and another commit of it in a temporary worktree."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.core.frozen_model import FrozenModel
from bench.host.running_code import CODE, sources_digest
from harness.errors import UsageError
from harness.interrupts import signals_as_interrupts
from harness.planning.git import (
    NO_CHECKOUT,
    ROOT,
    SHORT_COMMIT_LENGTH,
    checkout_problem,
    failure_reason,
    read_code_state,
    run_git,
)

WORKTREE_PREFIX = "scaling-base-"
LOCK_FILE = "lock"


class SourceTree(FrozenModel):
    """Code in a folder: ``bench``, ``reports`` and ``harness`` lie in :attr:`path`."""

    path: Path
    commit: str
    changed_files: bool = False
    """Whether files differ from the commit."""

    sources: str | None = None
    """The digest of its package ``bench`` (:mod:`bench.host.running_code`)."""

    @property
    def title(self) -> str:
        return f"{self.commit} with changed files" if self.changed_files else self.commit


def head_tree() -> SourceTree:
    """The running code. Raises :class:`UsageError` where it is not in a git checkout."""
    _check_checkout()
    state = read_code_state()
    if state.commit is None:
        raise UsageError(f"pairs with another commit need git: {state.reason}")
    return SourceTree(path=CODE, commit=state.commit, changed_files=bool(state.changed_files), sources=sources_digest())


@contextmanager
def checked_out(rev: str) -> Iterator[SourceTree]:
    """Commit ``rev`` of this repository in a worktree that is removed at the end of the block.

    A killed process leaves it behind; the next call removes it. Raises :class:`UsageError`.
    """
    commit = find_commit(rev)
    _clear_leftovers()
    with signals_as_interrupts():
        folder = Path(tempfile.mkdtemp(prefix=WORKTREE_PREFIX)).resolve()
        try:
            # Held until this process ends: whoever can take the lock may remove the worktree.
            with (folder / LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                checkout = folder / "tree"
                _git("worktree", "add", "--quiet", "--detach", str(checkout), commit)
                inside = _git("rev-parse", "--show-prefix")
                yield SourceTree(
                    path=checkout / inside,
                    commit=_git("rev-parse", f"--short={SHORT_COMMIT_LENGTH}", commit),
                    sources=sources_digest(checkout / inside / "bench"),
                )
        finally:
            _remove(folder)


def find_commit(rev: str) -> str:
    """The full id of the commit that ``rev`` names. Raises :class:`UsageError`."""
    _check_checkout()
    git_result = run_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
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
    problem = checkout_problem()
    if problem == NO_CHECKOUT:
        raise UsageError(
            f"pairs with another commit need a git checkout, which {ROOT} is not; run the harness from a clone"
        )
    if problem is not None:
        raise UsageError(f"pairs with another commit need git: {problem}")


def _git(*arguments: str) -> str:
    """git's output. Raises :class:`UsageError` with its error message."""
    done = run_git(*arguments)
    if done.returncode != 0:
        raise UsageError(f"git {arguments[0]}: {failure_reason(done)}")
    return done.stdout.strip()


def _remove(folder: Path) -> None:
    run_git("worktree", "remove", "--force", str(folder / "tree"))
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
