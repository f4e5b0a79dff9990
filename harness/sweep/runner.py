"""Runs the cases of a plan on a site and stores each trial when it ends.

The plan decides what runs; :mod:`reports` decides what the numbers mean.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.core.case import Case
from bench.core.records import Condition, Trial
from bench.host.disk import is_full
from bench.host.suspension import RunningTime
from bench.plugins.backend import Backend
from bench.plugins.registry import preloaded_modules
from harness.errors import HarnessError, StoreError
from harness.interrupts import interrupts_deferred
from harness.planning.plan import Plan, imprecise_cases, shuffle_cases, shuffled_rounds
from harness.sites.base.contract import Site
from harness.sites.base.running_trial import (
    RunningTrial,
    read_job_handles,
    reattach_trial,
    start_all,
    start_trial,
    utc_now,
)
from harness.store.store import Store, SweepInfo
from harness.sweep.assessment import assess_trial
from harness.sweep.building import MEASURED_LATER
from harness.sweep.turns import Turns, with_conditions
from harness.sweep.unstored import keep_unstored, store_kept
from harness.sweep.until_decided import rounds_until_decided
from harness.sweep.windows import with_chosen_windows
from reports.analysis.case_titles import case_title
from reports.analysis.step_times import throughput_of

log = logging.getLogger("scaling_harness")

MAX_ATTEMPTS = 3
"""How often a trial is started that something suspends."""


class Watcher(Protocol):
    """Shows people the progress of a sweep."""

    def begins(self, case: Case, round_number: int) -> None: ...

    def ends(self, trial: Trial) -> None: ...

    def may_follow(self, trials: int) -> None:
        """How many trials may follow at most, where that changes."""
        ...


class Extension(Protocol):
    """Adds cases to a sweep whose planned rounds have been run."""

    @property
    def once_round(self) -> int:
        """The round of a case in which what is measured once is measured: the overhead and the device's peak."""

    def round_ended(self, number: int) -> None:
        """Called after each round of the plan."""

    def extended(self) -> SweepInfo | None:
        """The sweep with further cases in its plan, as it is stored now; ``None``: there are none."""


def new_sweep_id() -> str:
    """A new id. Ids sort by time, and those of the same second differ."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_sweep(
    info: SweepInfo,
    store: Store,
    site: Site,
    backends: Mapping[str, Backend],
    folder: Path,
    watcher: Watcher,
    turns: Turns | None = None,
    extension: Extension | None = None,
) -> None:
    """Run every trial of the plan that the store does not hold, in shuffled rounds; each is stored when it ends.

    Args:
        info: The sweep, with its plan.
        store: Where the trials go.
        site: Where they run.
        backends: All backends by name.
        folder: For the files of running trials; those of failed trials stay.
        watcher: Shows progress.
        turns: Those of this command; ``None``: it takes none.
        extension: What adds cases when these have been run; ``None``: nothing does.

    Raises:
        StoreError: The store, or the disk of the folder, takes no further trial.
        KeyboardInterrupt: After an interrupt. It is deferred to where this waits: what was started is cancelled then.
    """
    with store.patient(), RunningTime() as running_time, interrupts_deferred(), closing(site):
        store_kept(folder, info.id, store)
        _run_rounds(info, store, site, backends, folder, watcher, running_time, turns or Turns(), extension)


def _run_rounds(
    info: SweepInfo,
    store: Store,
    site: Site,
    backends: Mapping[str, Backend],
    folder: Path,
    watcher: Watcher,
    running_time: RunningTime,
    turns: Turns,
    extension: Extension | None,
) -> None:
    def run(round_number: int, cases: Sequence[Case]) -> None:
        # The overhead and the device's peak are measured once a case: the former takes as long as a window.
        first = round_number == (0 if extension is None else extension.once_round)
        round_cases = [
            case.model_copy(update={"own_cost": case.own_cost and first, "roofline": case.roofline and first})
            for case in cases
        ]
        if any(case.adapt_window for case in round_cases):
            round_cases = with_chosen_windows(round_cases, round_number, store.trials(info.id))
        for trial in run_round(round_cases, round_number, site, backends, folder, info.environment.id, watcher, turns):
            if trial.outcome in ("failed", "timeout") and is_full(folder):
                # Neither the store nor any further trial would fare better: this one is taken again.
                problem = f"folder {folder}: cannot be written (its disk is full)"
                raise StoreError(f"{problem}; free some space, {store.resume_hint()}")
            if trial.case.key in info.plan.later:
                trial = with_conditions(trial, (MEASURED_LATER,))
            try:
                stored = store.add_trial(info.id, trial)
            except BaseException:
                keep_unstored(folder, trial)
                raise
            watcher.ends(stored)

    def run_planned() -> None:
        done = store.done(info.id)
        rounds = shuffled_rounds(info.plan, info.suite.seed)
        for round_number, planned in itertools.groupby(rounds, key=lambda one: one[0]):
            cases = [case for _, case in planned if (case.key, round_number) not in done]
            run(round_number, cases)
            if extension is not None and cases:
                extension.round_ended(round_number)

    def run_until_decided() -> None:
        for following in rounds_until_decided(info, store, whole_rounds=site.submits_rounds):
            watcher.may_follow(following.most)
            run(following.number, following.cases)
            if extension is not None and following.number == 0:
                extension.round_ended(0)

    run_rounds = run_planned if info.suite.until is None else run_until_decided
    run_rounds()
    ended_s = running_time.seconds
    extended = None if extension is None else extension.extended()
    extending_s = running_time.seconds - ended_s
    if extended is not None:
        info = extended
        run_rounds()
    if info.suite.precision is not None:
        for round_number, cases in _until_precise(
            info,
            info.suite.precision,
            store,
            lambda: running_time.seconds - turns.waited_s - extending_s,
            whole_rounds=site.submits_rounds,
        ):
            run(round_number, cases)
    store.finish_sweep(info.id, utc_now())


def run_round(
    cases: Sequence[Case],
    round_number: int,
    site: Site,
    backends: Mapping[str, Backend],
    folder: Path,
    environment: str,
    watcher: Watcher,
    turns: Turns | None = None,
) -> Iterator[Trial]:
    """Yield the trials of a round, in its order.

    Jobs of an interrupted sweep are reattached. The files of a trial are removed when the next trial is requested,
    since it is stored by then. Each trial waits for its turn before it begins.
    """
    job_handles = read_job_handles(folder)
    found = {
        case.key: reattach_trial(*job_handles[case.key, round_number], site, backends[case.backend])
        for case in cases
        if (case.key, round_number) in job_handles
    }
    reattached = {key: running for key, running in found.items() if running is not None}
    # Those that were found again run already: nothing is submitted beside them.
    batches = [[case for case in cases if case.key in reattached]]
    batches += site.batches([case for case in cases if case.key not in reattached])
    for batch in filter(None, batches):
        yield from _run_batch(
            batch, round_number, site, backends, folder, environment, watcher, turns or Turns(), reattached
        )


def _run_batch(
    cases: Sequence[Case],
    round_number: int,
    site: Site,
    backends: Mapping[str, Backend],
    folder: Path,
    environment: str,
    watcher: Watcher,
    turns: Turns,
    reattached: Mapping[str, RunningTrial],
) -> Iterator[Trial]:
    """As :func:`run_round`, for trials that are submitted together, or were reattached."""
    submitted = {case.key: reattached[case.key] for case in cases if case.key in reattached}
    submitted = submitted or start_all(cases, round_number, site, backends, folder)
    try:
        for case in cases:
            with turns.turn() as company:
                watcher.begins(case, round_number)
                backend = backends[case.backend]
                running = submitted.pop(case.key, None)
                if running is None:
                    running = start_trial(case, round_number, site, backend, folder)
                log.debug("trial %s, round %d: %s", case.key, round_number + 1, running.folder)
                again = partial(start_trial, case, round_number, site, backend, folder)
                running, trial = finish_trial(running, case, round_number, environment, again)
                trial = with_conditions(trial, company.conditions())
            yield trial
            running.clear(succeeded=trial.outcome == "ok")
    except HarnessError:
        # The jobs and their handles stay, and a resumed sweep reattaches them.
        raise
    except BaseException:
        for remaining in submitted.values():
            remaining.cancel()
        raise


def _until_precise(
    info: SweepInfo, precision: float, store: Store, running_s: Callable[[], float], *, whole_rounds: bool
) -> Iterator[tuple[int, list[Case]]]:
    """Further rounds of the cases whose intervals are too wide, until none is or the budget is spent.

    The budget is checked before each case, or before each round where the site submits ``whole_rounds``. What counts of
    it is the time for which the sweep has run, ``running_s``.
    """
    for round_number in itertools.count(max((number for _, number in store.done(info.id)), default=-1) + 1):
        rates: dict[str, list[float]] = {}
        for trial in store.trials(info.id):
            if trial.outcome == "ok":
                rates.setdefault(trial.case.key, []).append(throughput_of(trial.ranks))
        imprecise = imprecise_cases(info.plan, rates, precision)
        order = shuffle_cases(imprecise, info.suite.seed, round_number)
        for cases in [order] if whole_rounds and order else [[case] for case in order]:
            if running_s() > info.suite.budget_s:
                return
            yield round_number, cases
        if not imprecise:
            return


def preload_modules(plan: Plan, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """The modules that the ranks of the plan import beside torch, each once."""
    modules = (module for case in plan.cases for module in preloaded_modules(backends[case.backend], [case.workload]))
    return tuple(dict.fromkeys(modules))


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
