"""``nightly``: one night from sweep to verdict, with the pages and documents that continuous integration keeps.

Every step is a command in a process of its own, so that a crash of one does not affect the others. A crash is reported
and shows in the exit status; it does not hide what the other steps found.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from bench.host.processes import die_with_parent
from bench.host.secrets import MASK
from harness.check import micro_benchmarks
from harness.check.compared_code import SideSetup
from harness.check.micro_benchmarks import MicroRun
from harness.check.night_files import MICRO_FOLDER, clear_folder, night_output
from harness.errors import EXIT_OK, EXIT_TRIALS_FAILED, EXIT_USAGE, HarnessError, OutputError, UsageError
from harness.output_files import locked_folder, write_output
from harness.planning.suite import read_suite, shipped_suites
from harness.store import STORE_VARIABLE
from harness.store.location import store_label, store_path
from harness.store.opening import check_store, open_store
from harness.streams import results
from reports.formats.console import print_line

log = logging.getLogger("scaling_harness")

INDEX_NIGHTS = 14
"""Nights in the index. In an empty folder a page is written for each of them."""

NOTHING_MEASURED = "nothing was measured: no trial gave a number, see above"
SWEEP_MEANINGS = {EXIT_OK: "every trial gave a number", EXIT_TRIALS_FAILED: "some trials gave no number"}
CHECK_MEANINGS = {EXIT_OK: "pass", 1: "regressed", 3: "cannot tell", EXIT_TRIALS_FAILED: "failed cells"}
DEFAULT_MEANINGS = {EXIT_OK: "done"}
SEVEREST_FIRST = (1, EXIT_USAGE, EXIT_TRIALS_FAILED, 3, EXIT_OK)


@dataclass(frozen=True)
class NightlyOptions:
    """Options of a night."""

    suite: str
    store: str
    out: Path
    base_rev: str | None = None
    """The commit that suspects are compared with; ``None``: the last good one."""
    micro: bool | None = None
    """Run the micro-benchmarks, which are this project's; ``None``: with its own suites."""
    confirm: bool = True
    setup: SideSetup = field(default_factory=SideSetup)
    """What the sides of pairs need."""

    @property
    def measures_micro(self) -> bool:
        """Whether the micro-benchmarks are run."""
        return self.suite in shipped_suites() if self.micro is None else self.micro

    @property
    def setup_options(self) -> tuple[str, ...]:
        """What says to a check what the sides of pairs need."""
        install = () if self.setup.install is None else ("--install", self.setup.install)
        return (*install, *(word for name in self.setup.data for word in ("--data", name)))

    @property
    def store_options(self) -> tuple[str, ...]:
        """What says to a step which store it is; nothing where :attr:`store_variables` do."""
        return () if self.store_variables else ("--store", self.store)

    @property
    def store_variables(self) -> dict[str, str]:
        """The same as environment variables, where a location holds a secret: every user sees the arguments."""
        return {STORE_VARIABLE: self.store} if MASK in store_label(self.store) else {}


@dataclass(frozen=True)
class StepResult:
    """How a step ended: its contribution to the exit status, and a message."""

    step: str
    status: int
    message: str


def exit_status(steps: Sequence[StepResult]) -> int:
    """The most severe status: regression, bad input, failed trials, cannot tell, in this order."""
    statuses = {step.status for step in steps}
    return next(status for status in SEVEREST_FIRST if status in statuses)


def read_exit_code(step: str, code: int, meanings: Mapping[int, str]) -> StepResult:
    """Interpret a step's exit code. One without a meaning for this step is a crash, and counts as failed trials."""
    if code in meanings:
        return StepResult(step, code, meanings[code])
    if code == EXIT_USAGE:
        return StepResult(step, EXIT_USAGE, "bad usage or input, see above")
    cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return StepResult(step, EXIT_TRIALS_FAILED, f"crashed: {cause}")


def summarize_micro(runs: Sequence[MicroRun]) -> StepResult:
    """The combined result of a night's micro-benchmark processes."""
    failed = {name: why for run in runs for name, why in run.failed.items()}
    problems = [run.reason for run in runs if run.reason] or [f"{name}: {why}" for name, why in failed.items()]
    if not problems:
        return StepResult("micro", EXIT_OK, "done")
    return StepResult(
        "micro", EXIT_TRIALS_FAILED, f"crashed: {problems[0]}" + (f"; {len(problems) - 1} more" if problems[1:] else "")
    )


def check_command(night: NightlyOptions, sweep: str, *, confirm: bool) -> list[str]:
    """The check of this night's sweep, by its id: other sweeps may be stored meanwhile."""
    suite = ["--suite", read_suite(night.suite).name, "--sweep", sweep]
    base = ["--base-rev", night.base_rev] if night.base_rev else []
    pages = [("--junit", "junit.xml"), ("--markdown", "verdict.md"), ("--html", "verdict.html")]
    output_options = [argument for option, name in pages for argument in (option, str(night.out / name))]
    pairs = ["--confirm", *base, *night.setup_options] if confirm else []
    return _harness("check", *night.store_options, *suite, *pairs, *output_options, "--json")


def run_nightly(night: NightlyOptions, stderr_console: Console) -> int:
    """Run the night and return its exit status.

    Raises:
        HarnessError: Before anything is run, for options that cannot work.
        KeyboardInterrupt: After an interrupt, when the current step has ended.
    """
    read_suite(night.suite)
    check_store(night.store)
    if night.base_rev and not night.confirm:
        raise UsageError("--base-rev is the commit that suspects are confirmed against; leave --no-confirm out")
    with locked_folder("--out", night.out):
        clear_folder(night.out, store_path(night.store))
        return _run_steps(night, stderr_console)


def _run_steps(night: NightlyOptions, stderr_console: Console) -> int:
    nightly_run = _NightlyRun(night, stderr_console)
    before = _sweeps(night.store)
    swept = nightly_run.run("sweep", _harness("sweep", night.suite, *night.store_options), SWEEP_MEANINGS)
    nights = _sweeps(night.store)
    # Not the newest by date: the clock may have been set back.
    tonight = next((sweep for sweep in reversed(nights) if sweep not in before), None)
    if tonight and swept.status == EXIT_TRIALS_FAILED and not _has_a_number(night.store, tonight):
        nightly_run.ended[-1] = StepResult("sweep", EXIT_TRIALS_FAILED, NOTHING_MEASURED)
    if night.measures_micro:
        nightly_run.measure_micro(tonight)
    if tonight:
        nightly_run.check(tonight)
        page = str(night.out / "report.html")
        command = _harness("report", tonight, *night.store_options, "--out", page)
        nightly_run.run("report", command, document=subprocess.DEVNULL)
    else:
        # The newest sweep in the store is of another night: its verdict would not be about this one.
        nightly_run.ended.append(StepResult("check", EXIT_TRIALS_FAILED, "not run: there is no sweep of this night"))
    if nights:
        index = ["--index", str(night.out), *nights[-INDEX_NIGHTS:]]
        nightly_run.run("index", _harness("report", *night.store_options, *index))
    return nightly_run.print_summary()


@dataclass
class _NightlyRun:
    """A night in progress."""

    night: NightlyOptions
    stderr_console: Console
    ended: list[StepResult] = field(default_factory=list)

    def run(
        self,
        step: str,
        command: Sequence[str],
        meanings: Mapping[int, str] = DEFAULT_MEANINGS,
        document: IO[bytes] | int | None = None,
    ) -> StepResult:
        """Run a step and record how it ended. ``document``: for its standard output."""
        self.stderr_console.rule(step, align="left")
        self.ended.append(read_exit_code(step, run_command(command, document, self.night.store_variables), meanings))
        return self.ended[-1]

    def measure_micro(self, night: str | None) -> None:
        """Ingest micro-benchmarks as ``micro-SWEEP``, or under the day where there is no sweep."""
        self.stderr_console.rule("micro", align="left")
        try:
            runs = micro_benchmarks.run_night(self.night.out / MICRO_FOLDER)
        except HarnessError as problem:
            self.ended.append(StepResult("micro", problem.exit_code, str(problem)))
            return
        self.ended.append(summarize_micro(runs))
        files = [str(run.file) for run in runs if run.file]
        if files:
            named = ["--night", micro_benchmarks.night_label(night)] if night else []
            self.run("ingest", _harness("ingest", *files, *self.night.store_options, *named))

    def check(self, sweep: str) -> None:
        """Judge the sweep; without confirmation where that crashed."""
        if not (self.night.confirm and self._judge("check", sweep, confirm=True)):
            self._judge("check alone" if self.night.confirm else "check", sweep, confirm=False)

    def _judge(self, step: str, sweep: str, *, confirm: bool) -> bool:
        """Whether there is a verdict. Without one exit code 1 is that of a Python error, not of a regression."""
        with tempfile.TemporaryFile() as document:
            ended = self.run(step, check_command(self.night, sweep, confirm=confirm), CHECK_MEANINGS, document)
            document.seek(0)
            text = document.read()
        verdict = _parse_json(text)
        if verdict is None:
            if ended.status != EXIT_USAGE:
                self.ended[-1] = StepResult(step, EXIT_TRIALS_FAILED, "crashed: no verdict")
            return False
        self.ended[-1] = StepResult(step, ended.status, f"{ended.message}: {verdict['headline']}")
        try:
            write_output(night_output(self.night.out, "verdict.json"), text)
        except OutputError as problem:
            self.ended.append(StepResult("verdict", problem.exit_code, str(problem)))
        return True

    def print_summary(self) -> int:
        """Print how each step ended and where the pages are; returns the exit status."""
        self.stderr_console.rule("nightly", align="left")
        for step in self.ended:
            print_line(self.stderr_console, f"{step.step:12} {step.message}")
        print_line(self.stderr_console, f"pages: {self.night.out}")
        return exit_status(self.ended)


def run_command(
    command: Sequence[str], document: IO[bytes] | int | None = None, variables: Mapping[str, str] | None = None
) -> int:
    """Run a command to its end and return its exit code.

    Args:
        command: Its words.
        document: For its standard output, as :mod:`subprocess` takes it.
        variables: Further environment variables.

    It gets an interrupt exactly once, whether a terminal sent it to all processes or a service only to this one, and
    may shut down. KeyboardInterrupt is raised when it has ended. It is killed when this process dies.
    """
    process = subprocess.Popen(
        command,
        stdout=results() if document is None else document,
        start_new_session=True,
        preexec_fn=die_with_parent,
        env={**os.environ, **(variables or {})},
    )
    interrupt = None
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt as interruption:
            interrupt = interruption
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
    if interrupt:
        raise interrupt
    return process.returncode


def _sweeps(place: str) -> list[str]:
    """The store's sweeps, the oldest first; none where there is no store yet."""
    path = store_path(place)
    if path is not None and not path.exists():
        return []
    with closing(open_store(place, create=False)) as store:
        return store.sweep_ids()


def _has_a_number(place: str, sweep: str) -> bool:
    """Whether a trial of the sweep gave a number."""
    with closing(open_store(place, create=False)) as store:
        return store.has_result(sweep)


def _parse_json(text: bytes) -> Any:
    """The document; ``None`` where it is incomplete."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _harness(*arguments: str) -> list[str]:
    """A command of ours, as verbose as this one."""
    verbosity = {logging.DEBUG: ["--verbose"], logging.ERROR: ["--quiet"]}.get(log.level, [])
    return [sys.executable, "-m", "harness", *arguments, *verbosity]
