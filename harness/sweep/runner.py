"""Runs trials on a site: those of a round, in its order, or a single one.

The plan decides what runs; :mod:`reports` decides what the numbers mean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.core.case import Case
from bench.core.records import Condition, Trial
from bench.plugins.backend import Backend
from harness.errors import HarnessError
from harness.interrupts import interrupts_deferred
from harness.sites.base.contract import Site
from harness.sites.base.running_trial import (
    RunningTrial,
    read_job_handles,
    reattach_trial,
    start_all,
    start_trial,
)
from harness.sweep.assessment import assess_trial
from harness.sweep.machine_access import MachineAccess, with_conditions
from reports.analysis.case_titles import case_title

log = logging.getLogger("scaling_harness")

MAX_ATTEMPTS = 3
"""How often a trial is started that something suspends."""


class TrialWatcher(Protocol):
    """Shows people the progress of trials."""

    def begins(self, case: Case, round_number: int) -> None: ...


@dataclass(frozen=True)
class Round:
    """A round of trials: what they have in common."""

    number: int
    site: Site
    """Where they run."""
    backends: Mapping[str, Backend]
    """All backends by name."""
    folder: Path
    """For the files of running trials; those of failed trials stay."""
    environment: str
    """The id of the environment."""
    access: MachineAccess = field(default_factory=MachineAccess)
    """To the cores of this machine; the default takes no lock."""

    def start(self, case: Case) -> RunningTrial:
        return start_trial(case, self.number, self.site, self.backends[case.backend], self.folder)


def run_round(cases: Sequence[Case], this: Round, watcher: TrialWatcher) -> Iterator[Trial]:
    """Yield the trials of a round, in the order of its batches.

    Jobs of an interrupted sweep are reattached. The files of a trial are removed when the next trial is requested,
    since it is stored by then. Each trial holds the lock of the machine.
    """
    job_handles = read_job_handles(this.folder)
    found = {
        case.key: reattach_trial(*job_handles[case.key, this.number], this.site, this.backends[case.backend])
        for case in cases
        if (case.key, this.number) in job_handles
    }
    reattached = {key: running for key, running in found.items() if running is not None}
    # Those that were found again run already: nothing is submitted beside them.
    batches = [[case for case in cases if case.key in reattached]]
    batches += this.site.batches([case for case in cases if case.key not in reattached])
    for batch in filter(None, batches):
        yield from _run_batch(batch, this, watcher, reattached)


def _run_batch(
    cases: Sequence[Case], this: Round, watcher: TrialWatcher, reattached: Mapping[str, RunningTrial]
) -> Iterator[Trial]:
    """As :func:`run_round`, for trials that are submitted together, or were reattached."""
    submitted = {case.key: reattached[case.key] for case in cases if case.key in reattached}
    submitted = submitted or start_all(cases, this.number, this.site, this.backends, this.folder)
    try:
        for case in cases:
            with this.access.held() as beside:
                watcher.begins(case, this.number)
                running = submitted.pop(case.key, None)
                if running is None:
                    running = this.start(case)
                log.debug("trial %s, round %d: %s", case.key, this.number + 1, running.folder)
                running, trial = finish_trial(running, case, this.number, this.environment, partial(this.start, case))
                trial = with_conditions(trial, beside.conditions())
            yield trial
            running.clear(succeeded=trial.outcome == "ok")
    except HarnessError:
        # The jobs and their handles stay, and a resumed sweep reattaches them.
        raise
    except BaseException:
        for remaining in submitted.values():
            remaining.cancel()
        raise


def run_trial(
    case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path, environment: str
) -> Trial:
    """Run one fresh set of processes. The trial's folder stays where the trial failed."""
    start = partial(start_trial, case, round_number, site, backend, sweep_folder)
    with interrupts_deferred():
        running, trial = finish_trial(start(), case, round_number, environment, start)
        running.clear(succeeded=trial.outcome == "ok")
    return trial


def finish_trial(
    running: RunningTrial, case: Case, round_number: int, environment: str, start_again: Callable[[], RunningTrial]
) -> tuple[RunningTrial, Trial]:
    """Wait for the end of a trial and assess its result.

    Where its processes or their machine were suspended meanwhile, it is started again: at most :data:`MAX_ATTEMPTS`
    times in all, after which it is ``invalid``.

    Returns:
        The trial that counts: as it ran, and its result.
    """
    conditions: list[Condition] = []
    while True:
        result = running.wait(case.timeout_s)
        if result.suspended is None or len(conditions) + 1 >= MAX_ATTEMPTS:
            return running, assess_trial(
                running, replace(result, conditions=(*conditions, *result.conditions)), case, round_number, environment
            )
        log.warning(
            "%s · round %d: %s; this trial is taken again", case_title(case), round_number + 1, result.suspended
        )
        conditions.append(Condition(name="taken_again", seen=f"an attempt was discarded: {result.suspended}"))
        running.clear(succeeded=True)
        running = start_again()
