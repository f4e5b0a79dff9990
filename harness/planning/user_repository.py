"""The repository of a user's own code: the one that tracks the program or the plugin that a sweep measures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from bench.core.case import Case
from bench.host.running_code import CODE
from harness.planning.git import OWN_REPOSITORY, Repository
from harness.planning.program import ENVIRONMENT_MARK

UNTRACKED = "?? "
"""Begins the lines of ``git status --porcelain`` about files that git does not know."""


class UserRepository(Repository):
    """A repository that holds what is measured; the harness is installed somewhere else.

    Of files that git does not know only Python files are code: sweeps write their results into the folder, programs
    their checkpoints.
    """

    def problem(self) -> str | None:
        if not self.file.is_file():
            return f"{self.root} is not here, or lacks {self.file.name}; run the command in a clone of the repository"
        return super().problem()

    @property
    def untracked_reason(self) -> str:
        return f"{self.file.name} is not tracked by git in {self.root}; commit it"

    def differs(self) -> subprocess.CompletedProcess[str]:
        return self.git("status", "--porcelain", "--untracked-files=all")

    def is_changed(self, status: str) -> bool:
        return names_code(status.splitlines())


def names_code(status: Sequence[str]) -> bool:
    """Whether lines of ``git status`` name a tracked file, or an unknown Python file outside of environments (pure)."""
    unknown = [PurePosixPath(line.removeprefix(UNTRACKED).strip('"')) for line in status if line.startswith(UNTRACKED)]
    environments = {path.parent for path in unknown if path.name == ENVIRONMENT_MARK}
    return len(unknown) < len(status) or any(_is_code(path) and not environments & {*path.parents} for path in unknown)


def _is_code(path: PurePosixPath) -> bool:
    return path.suffix == ".py" and not any(part.startswith(".") for part in path.parts)


def find_repository(cases: Iterable[Case], plugins: Iterable[str | Path]) -> Repository:
    """The repository whose commits a sweep is about.

    Args:
        cases: The cases of the sweep; the program of one of them counts first.
        plugins: The files of its plugins.

    Returns:
        The user's repository where one holds a program or a plugin; else the checkout of this project.
    """
    programs = {case.program.digest: case.program for case in cases if case.program is not None}
    files = [Path(program.folder, program.script) for program in programs.values()]
    for file in (*files, *map(Path, plugins)):
        repository = repository_of(file)
        if repository is not None:
            return repository
    return OWN_REPOSITORY


def repository_of(file: Path) -> UserRepository | None:
    """The user's repository that a file lies in; ``None`` where it lies in none, or in the checkout of this project."""
    folder = file.resolve().parent
    if not folder.is_dir():
        return None
    try:
        done = Repository(folder, file).git("rev-parse", "--show-toplevel")
    except OSError:
        return None
    if done.returncode:
        # Whatever else is wrong, such as a folder of another user, is the reason why the commit is unknown.
        return None if "not a git repository" in done.stderr else UserRepository(folder, file.resolve())
    root = Path(done.stdout.strip()).resolve()
    return None if root in (OWN_REPOSITORY.root.resolve(), CODE) else UserRepository(root, file.resolve())
