"""A side of a comparison: a long-lived process that runs trials with the code of one tree only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.core.case import Case
from bench.core.records import Trial
from bench.host.logs import last_lines
from bench.host.variables import cleaned_environment
from harness.check import side_program
from harness.check.compared_code import ComparedCode
from harness.check.side_installation import InstallError, install_side
from harness.check.source_trees import SourceTree
from harness.errors import UsageError
from harness.sites.base.running_trial import utc_now
from harness.store.foreign import MAX_RECORD_BYTES
from harness.sweep.machine_access import MachineAccess, with_conditions

SideName = Literal["head", "base"]

BEGIN_TIMEOUT_S = 60.0
# Time beyond a trial's own timeout: to load frameworks, dump stacks and end ranks.
EXTRA_TIMEOUT_S = 60.0
SIDE_EXIT_GRACE_S = 5.0
MAX_STARTS = 2
MAX_ANSWER_BYTES = 2 * MAX_RECORD_BYTES
TAIL_LINES = 20
BOOTSTRAP = "import sys; path = sys.argv[1]; exec(compile(open(path).read(), path, 'exec'))"
"""Runs the program without a ``__main__`` file, which every rank would load again."""


class SideProcessLost(Exception):
    """The process of a side ended or does not answer; the message says how."""


class SideProcess:
    """The process of a side, and the pipe to it.

    Args:
        tree: The code that it runs.
        log: The file that its output is appended to.
        programs: The folder of the programs of its environment; ``None``: that of this process.
    """

    def __init__(self, tree: SourceTree, log: Path, programs: Path | None = None) -> None:
        self.pipe, theirs = Pipe()
        python = sys.executable if programs is None else str(programs / "python")
        with log.open("ab") as raw_output, theirs:
            self.process = subprocess.Popen(
                [python, "-c", BOOTSTRAP, side_program.__file__, str(theirs.fileno())],
                env=side_environment(tree, os.environ, programs),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=raw_output,
                stderr=raw_output,
            )

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer. Raises :class:`SideProcessLost` after ``timeout_s`` or at its end."""
        # A process that is stopped takes no request, or sends half an answer: its end unblocks the pipe.
        killer = threading.Timer(timeout_s + SIDE_EXIT_GRACE_S, self.process.kill)
        killer.daemon = True
        killer.start()
        try:
            self.pipe.send_bytes(json.dumps(request).encode())
            if not self.pipe.poll(timeout_s):
                raise SideProcessLost(f"gave no answer within {timeout_s:g} s")
            return _read(self.pipe)
        except (EOFError, OSError):
            raise SideProcessLost(f"ended with status {self._status_at_end()}") from None
        finally:
            killer.cancel()

    def _status_at_end(self) -> int:
        try:
            return self.process.wait(SIDE_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def end(self) -> None:
        """End the process and all that it started."""
        # It ends its trial and itself when the pipe closes.
        self.pipe.close()
        try:
            self.process.wait(SIDE_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _read(pipe: Connection) -> dict[str, Any]:
    raw_output = pipe.recv_bytes(MAX_ANSWER_BYTES)
    try:
        answer = json.loads(raw_output)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise SideProcessLost(f"gave an invalid answer: {raw_output[:60]!r}")
    return answer


def side_environment(
    tree: SourceTree, outside: os._Environ[str] | dict[str, str], programs: Path | None = None
) -> dict[str, str]:
    """The environment of a side: its tree comes first on the module path of every process that it starts.

    The working folder stays the same for relative paths, and is not searched for modules. Output is unbuffered, so
    that the log is complete whenever the process ends. An older tree does not remove by itself what ranks must not
    inherit. Packages of a user's working tree come before those of it that are installed, which are of one commit only.

    Args:
        tree: The code of the side.
        outside: The environment of this process.
        programs: The folder of the programs of the side's own environment, if it has one.
    """
    places = [tree.path, *(import_paths(tree.checkout) if tree.checkout is not None else ())]
    path = os.pathsep.join(filter(None, [*map(str, places), outside.get("PYTHONPATH")]))
    inherited = cleaned_environment(outside)
    if programs is not None:
        inherited |= {
            "VIRTUAL_ENV": str(programs.parent),
            "PATH": os.pathsep.join([str(programs), inherited.get("PATH", os.defpath)]),
        }
    return {**inherited, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def import_paths(checkout: Path) -> tuple[Path, ...]:
    """Where Python finds the packages of a repository: in its folder and, by a common layout, in ``src``."""
    return tuple(place for place in (checkout, checkout / "src") if place.is_dir())


@dataclass(frozen=True)
class PairContext:
    """What both sides have in common."""

    folder: Path
    """For logs and the folders of failed trials."""
    environment: str
    """The id of the environment, for the trials."""
    backends: tuple[str, ...]
    """Backends of all cases: their modules are loaded once."""
    code: ComparedCode = field(default_factory=ComparedCode)
    """What the commits of the sides are of."""
    programs_only: bool = False
    """Whether all cases run a user's program, whose ranks load frameworks by themselves."""
    site: str = "local"
    access: MachineAccess = field(default_factory=MachineAccess)
    """Those of the comparison on this machine. Both sides run their trials in them; they take none by themselves."""


class Side:
    """A tree that measures cases; a context manager.

    Errors of the tree's code are not raised: they give failed trials and :attr:`unavailable_reason`.
    """

    def __init__(self, name: SideName, tree: SourceTree, context: PairContext) -> None:
        self.name, self.tree, self.context = name, tree, context
        self.folder = (context.folder / f"{name}-{tree.commit}").resolve()
        self.unavailable_reason: str | None = None
        """Why it cannot measure, once that is known."""
        self.child: SideProcess | None = None
        self.programs: Path | None = None
        """The folder of the programs of its environment; ``None``: that of this process."""
        self.starts_left = MAX_STARTS

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_process()
        self._remove_environment()

    @property
    def title(self) -> str:
        return f"{self.name} {self.tree.commit}"

    def begin(self) -> str | None:
        """Start the process and load the tree's code; returns :attr:`unavailable_reason`."""
        if self.child is None and self.unavailable_reason is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                # To install and to load is work, too.
                with self.context.access.held():
                    self._install()
                    self.child = SideProcess(self.tree, self.log, self.programs)
                    self.unavailable_reason = self._start_problem()
            except (SideProcessLost, InstallError) as problem:
                self.unavailable_reason = f"{self.title} can't be run: {problem}"
            if self.unavailable_reason is not None:
                self.end_process()
        return self.unavailable_reason

    def _install(self) -> None:
        """Run the install command for the working tree, once. Raises :class:`InstallError`."""
        command = self.context.code.setup.install
        if command is not None and self.tree.checkout is not None and self.programs is None:
            self.programs = install_side(command, self.tree.checkout, self.folder)

    def _start_problem(self) -> str | None:
        assert self.child is not None
        answer = self.child.ask(
            BEGIN_TIMEOUT_S,
            do="begin",
            site=self.context.site,
            backends=self.context.backends,
            programs_only=self.context.programs_only,
        )
        if "problem" in answer:
            return f"{self.title} can't be run: {answer['problem']}"
        elsewhere = describe_foreign_packages(answer.get("code", {}), self.tree.path)
        return f"{self.title} can't be run by itself: {elsewhere}" if elsewhere else None

    def measure(self, case: Case, number: int) -> Trial:
        """Run one trial of a case; ``number`` is its round."""
        with self.context.access.held() as beside:
            began, started_at = time.monotonic(), utc_now()
            trial, reason = self._measured(case, number)
            if trial is not None:
                return with_conditions(trial, beside.conditions())
        return Trial(
            case=case,
            round=number,
            outcome="failed",
            reason=reason,
            environment=self.context.environment,
            sources=self.tree.sources,
            started_at=started_at,
            wall_s=time.monotonic() - began,
            log_tail=self._log_tail(),
        )

    def _measured(self, case: Case, number: int) -> tuple[Trial | None, str]:
        if self.begin() is not None or self.child is None:
            return None, str(self.unavailable_reason)
        if self.tree.checkout is not None:
            try:
                case = self.context.code.case_in(case, self.tree.checkout)
            except UsageError as problem:
                return None, f"{self.title}: {problem}"
        try:
            answer = self.child.ask(
                case.timeout_s + EXTRA_TIMEOUT_S,
                do="measure",
                case=compact_case(case),
                number=number,
                folder=str(self.folder),
                environment=self.context.environment,
            )
        except SideProcessLost as problem:
            self._discard_process(str(problem))
            return None, f"{self.title} {problem}"
        if "problem" in answer:
            return None, f"{self.title}: {answer['problem']}"
        trial, mismatch = read_trial(str(answer.get("trial")), case)
        if trial is not None and trial.sources is None:
            # A tree from before 2026-11-27 does not say what it runs.
            trial = trial.model_copy(update={"sources": self.tree.sources})
        return trial, f"{self.title} can't be run: {mismatch}"

    def _discard_process(self, how: str) -> None:
        """End a lost process. The next trial starts another one, at most :data:`MAX_STARTS` times."""
        self.end_process()
        self.starts_left -= 1
        if not self.starts_left:
            self.unavailable_reason = f"{self.title} can't be run: it {how}, {MAX_STARTS} times"

    def _remove_environment(self) -> None:
        if self.programs is not None:
            shutil.rmtree(self.programs.parent, ignore_errors=True)

    def end_process(self) -> None:
        """End the process, if there is one. The next trial starts another."""
        if self.child is not None:
            self.child.end()
            self.child = None

    @property
    def log(self) -> Path:
        return self.folder / "side.log"

    def _log_tail(self) -> tuple[str, ...]:
        try:
            return tuple(last_lines(self.log, TAIL_LINES))
        except OSError:
            return ()


def describe_foreign_packages(code: dict[str, str], tree: Path) -> str:
    """The packages that were not imported from the tree; empty where all were."""
    foreign_packages = [f"{name} came from {place}" for name, place in code.items() if Path(place).parent != tree]
    return "; ".join(foreign_packages)


def compact_case(case: Case) -> dict[str, Any]:
    """The case for an older tree: without fields at their defaults, which it may not know."""
    return case.model_dump(mode="json", exclude_defaults=True)


def read_trial(raw_output: str, case: Case) -> tuple[Trial | None, str]:
    """Parse the trial of another tree: the trial, or why it is none of this case."""
    try:
        trial = Trial.model_validate_json(raw_output)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its trial"
        return None, f"its trial can't be read here ({place}: {first['msg'].lower()})"
    theirs, ours = trial.case.model_dump(), case.without_program_files().model_dump()
    differ = [name for name, value in ours.items() if theirs[name] != value]
    return (None, f"it measures another case ({', '.join(differ)} differ)") if differ else (trial, "")


def programs_only(cases: Sequence[Case]) -> bool:
    """Whether all cases run a user's program."""
    return all(case.program is not None for case in cases)


def backends_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """The backends of some cases, each once."""
    return tuple(dict.fromkeys(case.backend for case in cases))
