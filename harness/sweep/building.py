"""Cells whose backend has to be compiled first: measured after all others, which don't wait for the compiler.

The compiler uses all cores, so nothing is measured beside it. Who starts on a new machine sees the other cells' numbers
in the meantime.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import NamedTuple, TextIO

from rich.console import Console

from bench.plugins.backend import Backend
from bench.plugins.workload import Workload
from harness.interrupts import interrupts_allowed
from harness.planning.plan import Plan, Skip, unavailable_reason
from harness.reporting.pricing import pricing_of
from harness.reporting.report import sweep_cells
from harness.reporting.stored_trials import read_trials
from harness.sites.base.contract import Site
from harness.store.store import SweepInfo
from harness.sweep.beginning import preload_modules
from harness.sweep.data import prepare_data
from harness.sweep.prepared import PreparedSweep
from harness.sweep.progress import SweepProgress
from reports.analysis.findings import analyse_cells
from reports.analysis.formatting import counted
from reports.analysis.predictions import DEFAULT_PREDICT_OPTIONS
from reports.formats import terminal
from reports.formats.console import print_line
from reports.page import summary

log = logging.getLogger("scaling_harness")
BUILD_OPTION = "--build"


class Build(NamedTuple):
    """How a module that backends require is built on this machine."""

    is_missing: Callable[[], bool]
    """Whether it is not there, or is of no use, and a build may change that."""
    run: Callable[[TextIO], None]
    """Builds and installs it, and shows how far it is. A failure is kept where the backend's own reason tells it."""


Builds = Mapping[str, Build]
"""By the module's name."""


def builds_on_resume(builds: Builds, command: str, *, asked: bool) -> Builds:
    """What may be built where a sweep goes on (pure): nothing, unless its own command says so, or that of now.

    Args:
        builds: What can be built.
        command: The command line that the sweep was started with, as its store quotes it.
        asked: Whether the command of now says so.
    """
    words: list[str] = []
    with suppress(ValueError):  # a store may come from somewhere else
        words = shlex.split(command)
    return builds if asked or BUILD_OPTION in words else {}


def needed_builds(plan: Plan, backends: Mapping[str, Backend], builds: Builds, site: Site) -> tuple[str, ...]:
    """The modules that cells of a plan are skipped without, and that can be built here."""
    if not site.shares_environment:
        return ()
    required = {name for skip in plan.skips for name in backends[skip.case.backend].requires}
    return tuple(name for name in builds if name in required and builds[name].is_missing())


def waiting_cells(plan: Plan, backends: Mapping[str, Backend], modules: Collection[str]) -> tuple[Skip, ...]:
    """The skipped cells of a plan whose backends require one of these modules (pure)."""
    return tuple(skip for skip in plan.skips if not set(modules).isdisjoint(backends[skip.case.backend].requires))


def with_waiting_cells(
    plan: Plan,
    waiting: Collection[Skip],
    backends: Mapping[str, Backend],
    workloads: Mapping[str, Workload],
    site: Site,
) -> Plan:
    """The plan after a build: cells that can run now come last, and the others are skipped with the reason of now."""
    cases, skips = [], []
    for skip in plan.skips:
        reason: str | None = skip.reason
        if skip in waiting:
            case = skip.case
            reason = unavailable_reason(case, backends[case.backend], workloads[case.workload], site.machine(), site)
        if reason is None:
            cases.append(skip.case)
        else:
            skips.append(Skip(case=skip.case, reason=reason))
    return plan.model_copy(
        update={
            "cases": (*plan.cases, *cases),
            "skips": tuple(skips),
            "later": (*plan.later, *(case.key for case in cases)),
        }
    )


class LaterCells:
    """Builds what cells of a sweep lack when the others have been measured, and adds these cells to it.

    Implements :class:`harness.sweep.rounds.Extension`.

    Args:
        sweep: The sweep.
        builds: What can be built.
        watcher: Shows the sweep's progress.
        console: For people: standard error.
    """

    def __init__(self, sweep: PreparedSweep, builds: Builds, watcher: SweepProgress, console: Console) -> None:
        self.sweep, self.builds, self.watcher, self.console = sweep, builds, watcher, console
        self.info = sweep.info
        backends = sweep.plugins.backends
        self.modules = needed_builds(self.info.plan, backends, builds, sweep.site)
        self.waiting = waiting_cells(self.info.plan, backends, self.modules)
        if self.waiting:
            trials = counted(len(self.waiting) * self.info.plan.repeats, "trial")
            log.info(
                "%s is compiled once the other cells are measured (some minutes, once); then follow %s, %s%s",
                self._names,
                self._cells,
                "at most " if self.info.suite.until else "",
                trials,
            )

    @property
    def _names(self) -> str:
        return ", ".join(name.capitalize() for name in self.modules)

    @property
    def _cells(self) -> str:
        return counted(len(self.waiting), "cell")

    @property
    def once_round(self) -> int:
        """See :class:`harness.sweep.rounds.Extension`. The first round has what the first table needs, and no more."""
        several = self.info.plan.repeats > 1 and self.info.suite.until is None
        return 1 if several and (self.waiting or self.info.plan.later) else 0

    def round_ended(self, number: int) -> None:
        """See :class:`harness.sweep.rounds.Extension`. After the first round, where more follow, a table is shown."""
        if self.waiting and number == 0 and self.info.plan.repeats > 1:
            rounds = "round" if self.info.suite.until else f"of {self.info.plan.repeats} rounds"
            self._show_table(f"after the first {rounds}")

    def extended(self) -> SweepInfo | None:
        """See :class:`harness.sweep.rounds.Extension`."""
        if not self.waiting:
            return None
        if self.info.plan.cases:
            self._show_table(f"all rounds; next: to compile {self._names}, for {self._cells}")
        before, plan = self.info.plan, self._plan_after_build()
        self.info, self.waiting = self.info.model_copy(update={"plan": plan}), ()
        self.sweep.store.change_plan(self.info)
        self.watcher.follow((len(plan.cases) - len(before.cases)) * plan.repeats)
        return self.info

    def _plan_after_build(self) -> Plan:
        site, access, (backends, workloads, _) = self.sweep.site, self.sweep.access, self.sweep.plugins
        access.release()  # a compiler takes the lock itself
        with self.watcher.paused(), interrupts_allowed():
            for name in self.modules:
                self.builds[name].run(sys.stderr)
        plan = with_waiting_cells(self.info.plan, self.waiting, backends, workloads, site)
        waited = {skip.case.key for skip in self.waiting}
        for reason in dict.fromkeys(skip.reason for skip in plan.skips if skip.case.key in waited):
            log.warning("still skipped: %s", reason)
        if plan.cases != self.info.plan.cases:
            # Frameworks are loaded again, with the new one among them, under the lock of the first trial.
            access.acquire()
            site.reserve(plan.cases)
            site.warm_again(preload_modules(plan, backends))
            plan = prepare_data(plan, workloads, self.console)
        return plan

    def _show_table(self, title: str) -> None:
        backends, workloads, _ = self.sweep.plugins
        with self.sweep.access.held():
            stored = read_trials(self.sweep.store, self.info, whole=0)
            cells = sweep_cells(self.info, stored.summaries, backends, workloads)
            measured = tuple(cell for cell in cells if cell.outcome != "skipped")
            findings = analyse_cells(measured, DEFAULT_PREDICT_OPTIONS, pricing_of(self.info.suite, None))
            print_line(self.console, f"first results, {title}:")
            for table in terminal.cell_tables(measured, self.console.width):
                self.console.print(table)
            for line in summary.answer_sentences(findings):
                print_line(self.console, line)
