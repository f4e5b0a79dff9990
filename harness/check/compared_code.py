"""The code whose commits are compared: that of this project, or that of a user's repository.

The cases of a user's repository carry a program or plugins, as they were when the sweep was planned. Each side of a
comparison runs them as they are in its own working tree, under the same harness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.case import Case, PluginSource
from bench.core.program import Program
from bench.plugins.sources import PluginError, read_plugin_file, text_digest
from harness.errors import UsageError
from harness.planning.git import OWN_REPOSITORY, Repository
from harness.planning.program import changed_files, read_in
from harness.planning.sources import describe_files
from harness.planning.user_repository import UserRepository, find_repository, repository_of
from harness.store.store import SweepInfo


@dataclass(frozen=True)
class SideSetup:
    """What the working tree of each side of a user's repository needs before it is measured."""

    install: str | None = None
    """A shell command, run in an environment of the side's own; ``None``: both sides share that of the harness."""
    data: tuple[str, ...] = ()
    """Files and folders that git does not track, by their paths in the repository: the base gets links to them."""


@dataclass(frozen=True)
class ComparedCode:
    """A repository, and where the cases that are compared name files of it."""

    repository: Repository = OWN_REPOSITORY
    planned_in: Path = OWN_REPOSITORY.root
    """The root of the repository where the cases were planned: another clone may have planned them."""
    plugins: tuple[str, ...] = ()
    """The files of the plugins, as the suite names them."""
    setup: SideSetup = field(default_factory=SideSetup)

    @property
    def own(self) -> bool:
        """Whether the commits are those of this project."""
        return self.repository == OWN_REPOSITORY

    def case_in(self, case: Case, tree: Path) -> Case:
        """The case with its program and plugins as they are in another working tree of the repository.

        Raises:
            UsageError: The tree lacks one of them, or it can't be read.
        """
        program = case.program and self._program_in(case.program, tree)
        plugins = tuple(self._plugin_in(plugin, tree) for plugin in case.plugins)
        return case.model_copy(update={"program": program, "plugins": plugins})

    def check_unchanged(self, cases: Iterable[Case]) -> None:
        """Raise :class:`UsageError` where a program or a plugin is not what the cases carry."""
        for case in cases:
            now = self.case_in(case, self.repository.root)
            changed = changed_files(case.program, now.program) if case.program and now.program else ()
            before = {plugin.name: plugin.digest for plugin in case.plugins}
            changed += tuple(plugin.file for plugin in now.plugins if before[plugin.name] != plugin.digest)
            if changed:
                raise UsageError(
                    f"--confirm: {describe_files(changed)} in {self.repository.root} changed since the newest sweep; "
                    "restore what it measured, or sweep again"
                )

    def _program_in(self, program: Program, tree: Path) -> Program:
        folder = self._moved(Path(program.folder), tree)
        if folder is None:
            return program
        if not (folder / program.script).is_file():
            raise UsageError(f"{program.script} does not exist there")
        started_in = Path(program.working_directory)
        moved = self._moved(started_in, tree)
        return read_in(program, folder, moved if moved is not None and moved.is_dir() else started_in)

    def _plugin_in(self, plugin: PluginSource, tree: Path) -> PluginSource:
        places = [place for name in self.plugins if (place := self._moved(Path(name), tree)) is not None]
        place = next((place for place in places if place.name == plugin.file), None)
        if place is None or plugin.text is None:
            return plugin
        try:
            text = read_plugin_file(place)
        except PluginError as problem:
            raise UsageError(str(problem)) from None
        return plugin.model_copy(update={"text": text, "digest": text_digest(text)})

    def _moved(self, path: Path, tree: Path) -> Path | None:
        """A path of the repository in another working tree; ``None`` for one that lies outside."""
        return tree / path.relative_to(self.planned_in) if path.is_relative_to(self.planned_in) else None


def code_of_plan(cases: Sequence[Case], plugins: tuple[str, ...], setup: SideSetup) -> ComparedCode:
    """The code of cases that were planned just now."""
    repository = find_repository(cases, plugins)
    return ComparedCode(repository, repository.root, plugins, setup)


def code_of_sweep(info: SweepInfo, setup: SideSetup) -> ComparedCode:
    """The code of a stored sweep: its repository where it was measured, else the clone of it in the current folder.

    Where neither holds what was measured, the repository says so (:meth:`Repository.problem`).
    """
    if info.environment.repository is None:
        return ComparedCode(setup=setup)
    planned_in = Path(info.environment.repository)
    measured = [Path(case.program.folder, case.program.script) for case in info.plan.cases if case.program is not None]
    measured += map(Path, info.suite.plugins)
    inside = [file.relative_to(planned_in) for file in measured if file.is_relative_to(planned_in)]
    here = repository_of(Path.cwd() / "file")
    roots = (planned_in, *([here.root] if here is not None else []))
    candidates = [UserRepository(root, root / next(iter(inside), "unknown")) for root in roots]
    repository = next((found for found in candidates if found.file.is_file()), candidates[0])
    return ComparedCode(repository, planned_in, info.suite.plugins, setup)
