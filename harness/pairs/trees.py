"""Two states of the code side by side: the running checkout, and another commit of it in a temporary worktree."""

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

from bench.value import Value
from harness.errors import UsageError
from harness.signals import terminated_as_interrupted

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "scaling-base-"
LOCK = "lock"

# What git sets for its hooks would point every command of ours at another repository or index.
OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


SHORT = 12
"""Characters of a commit's id, as in every record."""


class Tree(Value):
    """Code in a folder: ``bench``, ``reports`` and ``harness`` lie in :attr:`path`."""

    path: Path
    commit: str
    changed_files: bool = False
    """Files differ from the commit."""

    @property
    def title(self) -> str:
        return f"{self.commit} with changed files" if self.changed_files else self.commit


def head_tree() -> Tree:
    """The running code. Raises :class:`UsageError` where it is in no git checkout."""
    _check_checkout()
    changed = bool(_git("status", "--porcelain"))
    return Tree(path=ROOT, commit=_git("rev-parse", f"--short={SHORT}", "HEAD"), changed_files=changed)


@contextmanager
def checked_out(rev: str) -> Iterator[Tree]:
    """Commit ``rev`` of this repository in a worktree that is gone afterwards, however the block ends.

    A killed process leaves it behind; the next call clears that away. Raises :class:`UsageError`.
    """
    commit = find_commit(rev)
    _clear_leftovers()
    with terminated_as_interrupted():
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        try:
            # Held as long as this process lives, however it ends: who can take it knows that nobody is there.
            with (folder / LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                place = folder / "tree"
                _git("worktree", "add", "--quiet", "--detach", str(place), commit)
                inside = _git("rev-parse", "--show-prefix")
                yield Tree(path=place / inside, commit=_git("rev-parse", f"--short={SHORT}", commit))
        finally:
            _remove(folder)


def find_commit(rev: str) -> str:
    """The full id of the commit that ``rev`` names. Raises :class:`UsageError`."""
    _check_checkout()
    found = _try("rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.strip()
    if _git("rev-parse", "--is-shallow-repository") == "true":
        raise UsageError(f"--base-rev {rev}: not in this shallow clone; run `git fetch --unshallow` first "
                         "(GitHub Actions: `fetch-depth: 0` of actions/checkout)")  # fmt: skip
    raise UsageError(f"--base-rev {rev}: {ROOT} has no such commit; see `git log`, or `git fetch` it first")


def short_commit(rev: str) -> str:
    """As records have it. Raises :class:`UsageError`."""
    return find_commit(rev)[:SHORT]


def _check_checkout() -> None:
    # A package installed into an environment inside somebody's repository is not tracked there.
    try:
        found = _try("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
    except FileNotFoundError:
        raise UsageError("pairs with another commit need git, and there is none; install it") from None
    if found.returncode != 0:
        said = [line for line in found.stderr.splitlines() if line.startswith("fatal:") and "not a git" not in line]
        because = f" ({said[0].removeprefix('fatal: ')})" if said else ""
        raise UsageError(f"pairs with another commit need a git checkout, which {ROOT} is not{because}; "
                         "run the harness from a clone")  # fmt: skip


def _try(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in OF_HOOKS}
    # A session of its own: Ctrl-C is for the harness, which then lets git clear up.
    return subprocess.run(
        ["git", "-C", str(ROOT), "-c", "core.hooksPath=/dev/null", *arguments],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip


def _git(*arguments: str) -> str:
    """What git says. Raises :class:`UsageError` with its complaint."""
    done = _try(*arguments)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise UsageError(f"git {arguments[0]} in {ROOT}: {said.removeprefix('fatal: ')}")
    return done.stdout.strip()


def _remove(folder: Path) -> None:
    _try("worktree", "remove", "--force", str(folder / "tree"))
    shutil.rmtree(folder, ignore_errors=True)


def _clear_leftovers() -> None:
    """Remove the worktrees of ours whose process has gone without doing it."""
    for line in _git("worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        if not line.startswith("worktree ") or not folder.name.startswith(PREFIX):
            continue
        if not folder.exists():
            _remove(folder)
            continue
        with suppress(OSError), (folder / LOCK).open() as lock:
            if _is_free(lock):
                _remove(folder)


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
