"""A side of a comparison: a long-lived process with a warm parent of its own, whose code comes from one tree only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.case import Case
from bench.records import Trial
from harness.pairs import side_program
from harness.pairs.trees import Tree
from harness.run import now

SideName = Literal["head", "base"]

BEGIN_S = 60.0
# What a trial may take beyond its own timeout: the frameworks are loaded, stacks are gathered, ranks are ended.
MORE_S = 60.0
TIDY_S = 5.0
LIVES = 2
TAIL_LINES = 20
START = "import sys; path = sys.argv[1]; exec(compile(open(path).read(), path, 'exec'))"
"""Not the file itself: every rank would load a main module that has one."""


class Lost(Exception):
    """The process of a side is of no more use; the message says how it ended."""


class Child:
    """The process of a side, and the pipe to it."""

    def __init__(self, tree: Path, log: Path) -> None:
        self.pipe, theirs = Pipe()
        with log.open("ab") as said, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, side_program.__file__, str(theirs.fileno())],
                env=variables(tree, os.environ), pass_fds=[theirs.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Its answer. Raises :class:`Lost`."""
        try:
            self.pipe.send_bytes(json.dumps(request).encode())
            if not self.pipe.poll(timeout_s):
                raise Lost(f"gave no answer within {timeout_s:g} s")
            return _read(self.pipe)
        except (EOFError, OSError):
            raise Lost(f"ended with status {self.process.wait()}") from None

    def end(self) -> None:
        """End it with all that it started, whatever it is at."""
        # A closed pipe tells it to end its trial and go.
        self.pipe.close()
        try:
            self.process.wait(TIDY_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _read(pipe: Connection) -> dict[str, Any]:
    said = pipe.recv_bytes()
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Lost(f"answered nonsense: {said[:60]!r}")
    return answer


def variables(tree: Path, outside: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The environment of a side (pure): its tree comes before all else that is installed, in every process it starts.

    The working folder stays what it is, for the sake of relative paths; so it must not be searched for modules. What
    it says is in its log at once, where it may be ended at any moment.
    """
    path = os.pathsep.join(filter(None, [str(tree), outside.get("PYTHONPATH")]))
    return {**outside, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Ground:
    """What both sides of a comparison share."""

    folder: Path
    """Logs and the folders of trials that did not end well."""
    environment: str
    """The id that trials carry."""
    backends: tuple[str, ...]
    """Of all cases to come: their modules are loaded once."""
    site: str = "local"


class Side:
    """A tree that measures. A context; what the tree does wrong is told in values: failed trials, :attr:`why_not`."""

    def __init__(self, name: SideName, tree: Tree, ground: Ground) -> None:
        self.name, self.tree, self.ground = name, tree, ground
        self.folder = (ground.folder / f"{name}-{tree.commit}").resolve()
        self.why_not: str | None = None
        """Why it can't measure, once that is known."""
        self.child: Child | None = None
        self.lives = LIVES

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def title(self) -> str:
        return f"{self.name} {self.tree.commit}"

    def begin(self) -> str | None:
        """Start its process and load its code; returns :attr:`why_not`."""
        if self.child is None and self.why_not is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.child = Child(self.tree.path, self.log)
            try:
                self.why_not = self._refusal()
            except Lost as problem:
                self.why_not = f"{self.title} can't be run: {problem}"
            if self.why_not is not None:
                self._end()
        return self.why_not

    def _refusal(self) -> str | None:
        assert self.child is not None
        answer = self.child.ask(BEGIN_S, do="begin", site=self.ground.site, backends=self.ground.backends)
        if "problem" in answer:
            return f"{self.title} can't be run: {answer['problem']}"
        elsewhere = foreign(answer.get("code", {}), self.tree.path)
        return f"{self.title} can't be run by itself: {elsewhere}" if elsewhere else None

    def measure(self, case: Case, number: int) -> Trial:
        """One trial of the case."""
        began, started_at = time.monotonic(), now()
        trial, reason = self._measured(case, number)
        if trial is not None:
            return trial
        return Trial(
            case=case, round=number, outcome="failed", reason=reason, environment=self.ground.environment,
            started_at=started_at, wall_s=time.monotonic() - began, log_tail=self._last_words(),
        )  # fmt: skip

    def _measured(self, case: Case, number: int) -> tuple[Trial | None, str]:
        if self.begin() is not None or self.child is None:
            return None, str(self.why_not)
        try:
            answer = self.child.ask(
                case.timeout_s + MORE_S, do="measure", case=spare(case), number=number, folder=str(self.folder),
                environment=self.ground.environment,
            )  # fmt: skip
        except Lost as problem:
            self._lose(str(problem))
            return None, f"{self.title} {problem}"
        if "problem" in answer:
            return None, f"{self.title}: {answer['problem']}"
        trial, unlike = read_trial(str(answer.get("trial")), case)
        return trial, f"{self.title} can't be run: {unlike}"

    def _lose(self, how: str) -> None:
        """Its process is of no more use: the next trial begins another one, but not for ever."""
        self._end()
        self.lives -= 1
        if not self.lives:
            self.why_not = f"{self.title} can't be run: it {how}, {LIVES} times"

    def _end(self) -> None:
        if self.child is not None:
            self.child.end()
            self.child = None

    @property
    def log(self) -> Path:
        return self.folder / "side.log"

    def _last_words(self) -> tuple[str, ...]:
        try:
            return tuple(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        except OSError:
            return ()


def foreign(code: dict[str, str], tree: Path) -> str:
    """Which package came from somewhere else than the tree, in words (pure); empty where none did."""
    strangers = [f"{name} came from {place}" for name, place in code.items() if Path(place).parent != tree]
    return "; ".join(strangers)


def spare(case: Case) -> dict[str, Any]:
    """The case as an older tree can read it: without the fields that say nothing new."""
    return case.model_dump(mode="json", exclude_defaults=True)


def read_trial(said: str, case: Case) -> tuple[Trial | None, str]:
    """The trial of another tree, or why it is none of the case: values of the two may differ in what they hold."""
    try:
        trial = Trial.model_validate_json(said)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its trial"
        return None, f"its trial can't be read here ({place}: {first['msg'].lower()})"
    theirs, ours = trial.case.model_dump(), case.model_dump()
    differ = [name for name, value in ours.items() if theirs[name] != value]
    return (None, f"it measures another case ({', '.join(differ)} differ)") if differ else (trial, "")


def backends_of(cases: Sequence[Case]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(case.backend for case in cases))
