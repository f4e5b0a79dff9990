"""The working tree of the code that is compared, and another commit of it in a temporary worktree."""

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
from harness.check.compared_code import ComparedCode
from harness.errors import UsageError
from harness.interrupts import signals_as_interrupts
from harness.planning.git import (
    NO_CHECKOUT,
    OWN_REPOSITORY,
    ROOT,
    SHORT_COMMIT_LENGTH,
    Repository,
    read_code_state,
)

WORKTREE_PREFIX = "scaling-base-"
LOCK_FILE = "lock"


class SourceTree(FrozenModel):
    """Code in a folder: ``bench``, ``reports`` and ``harness`` lie in :attr:`path`."""

    path: Path
    commit: str
    """Of this project, or of the user's repository where :attr:`checkout` is one."""
    changed_files: bool = False
    """Whether files differ from the commit."""

    sources: str | None = None
    """The digest of its package ``bench`` (:mod:`bench.host.running_code`)."""
    checkout: Path | None = None
    """The working tree of a user's repository that is measured by these packages; ``None``: they are what is
    compared."""

    @property
    def title(self) -> str:
        return f"{self.commit} with changed files" if self.changed_files else self.commit


OWN_CODE = ComparedCode()


def head_tree(code: ComparedCode = OWN_CODE) -> SourceTree:
    """The code as it is checked out. Raises :class:`UsageError` where it is not in a git checkout."""
    _check_checkout(code.repository)
    state = read_code_state() if code.own else code.repository.state()
    if state.commit is None:
        raise UsageError(f"pairs with another commit need git: {state.reason}")
    return SourceTree(
        path=CODE,
        commit=state.commit,
        changed_files=bool(state.changed_files),
        sources=sources_digest(),
        checkout=None if code.own else code.repository.root,
    )


@contextmanager
def checked_out(rev: str, code: ComparedCode = OWN_CODE) -> Iterator[SourceTree]:
    """Commit ``rev`` of the code in a worktree that is removed at the end of the block.

    A killed process leaves it behind; the next call removes it. Raises :class:`UsageError`.
    """
    repository = code.repository
    commit = find_commit(rev, repository)
    _clear_leftovers(repository)
    with signals_as_interrupts():
        folder = Path(tempfile.mkdtemp(prefix=WORKTREE_PREFIX)).resolve()
        try:
            # Held until this process ends: whoever can take the lock may remove the worktree.
            with (folder / LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                checkout = folder / "tree"
                _git(repository, "worktree", "add", "--quiet", "--detach", str(checkout), commit)
                short = _git(repository, "rev-parse", f"--short={SHORT_COMMIT_LENGTH}", commit)
                yield _own_tree(checkout, short) if code.own else _user_tree(checkout, short, code)
        finally:
            _remove(folder, repository)


def _own_tree(checkout: Path, commit: str) -> SourceTree:
    inside = checkout / _git(OWN_REPOSITORY, "rev-parse", "--show-prefix")
    return SourceTree(path=inside, commit=commit, sources=sources_digest(inside / "bench"))


def _user_tree(checkout: Path, commit: str, code: ComparedCode) -> SourceTree:
    if (checkout / ".gitmodules").exists():
        _git(Repository(checkout, checkout), "submodule", "update", "--init", "--recursive", "--quiet")
    for name in code.setup.data:
        _link_data(code.repository.root, checkout, name)
    return SourceTree(path=CODE, commit=commit, sources=sources_digest(), checkout=checkout)


def _link_data(root: Path, checkout: Path, name: str) -> None:
    """Give a worktree a link to a file or folder that git does not track."""
    source, target = root / name, checkout / name
    if not target.resolve().is_relative_to(checkout) or not source.exists():
        raise UsageError(f"--data {name}: {root} has no such file or folder")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def find_commit(rev: str, repository: Repository = OWN_REPOSITORY) -> str:
    """The full id of the commit that ``rev`` names. Raises :class:`UsageError`."""
    _check_checkout(repository)
    git_result = repository.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if git_result.returncode == 0:
        return git_result.stdout.strip()
    if _git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise UsageError(
            f"--base-rev {rev}: not in this shallow clone; run `git fetch --unshallow` first "
            "(GitHub Actions: `fetch-depth: 0` of actions/checkout)"
        )
    raise UsageError(f"--base-rev {rev}: {repository.root} has no such commit; see `git log`, or `git fetch` it first")


def short_commit(rev: str, repository: Repository = OWN_REPOSITORY) -> str:
    """The id of a commit as in records. Raises :class:`UsageError`."""
    return find_commit(rev, repository)[:SHORT_COMMIT_LENGTH]


def _check_checkout(repository: Repository) -> None:
    problem = repository.problem()
    if problem == NO_CHECKOUT:
        raise UsageError(
            f"pairs with another commit need a git checkout, which {ROOT} is not; measure a program that git tracks, "
            "or run the harness from a clone"
        )
    if problem is not None:
        raise UsageError(f"pairs with another commit need git: {problem}")


def _git(repository: Repository, *arguments: str) -> str:
    """git's output. Raises :class:`UsageError` with its error message."""
    done = repository.git(*arguments)
    if done.returncode != 0:
        raise UsageError(f"git {arguments[0]}: {repository.failure_reason(done)}")
    return done.stdout.strip()


def _remove(folder: Path, repository: Repository) -> None:
    # Forced: its submodules, and what a command of the user has built there, go too.
    repository.git("worktree", "remove", "--force", str(folder / "tree"))
    shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers(repository: Repository) -> None:
    """Remove our worktrees whose process has ended without doing so."""
    for line in _git(repository, "worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        if not line.startswith("worktree ") or not folder.name.startswith(WORKTREE_PREFIX):
            continue
        if not folder.exists():
            _remove(folder, repository)
            continue
        with suppress(OSError), (folder / LOCK_FILE).open() as lock:
            if _is_free(lock):
                _remove(folder, repository)


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
