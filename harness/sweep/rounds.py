"""The rounds of a sweep: which cases run next, and where each trial is stored when it ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

from bench.core.case import Case
from bench.core.records import Condition, Trial
from bench.host.disk import is_full
from bench.host.suspension import RunningTime
from harness.errors import StoreError
from harness.interrupts import interrupts_deferred
from harness.planning.plan import imprecise_cases, shuffle_cases, shuffled_rounds
from harness.sites.base.running_trial import utc_now
from harness.store.store import Store, SweepInfo
from harness.store.summaries import MIN_KEPT_CASES, keep_case
from harness.store.trial_outcomes import read_throughputs, read_whole_trials
from harness.sweep.machine_access import with_conditions
from harness.sweep.prepared import PreparedSweep
from harness.sweep.runner import Round, TrialWatcher, run_round
from harness.sweep.unstored import keep_unstored, store_kept
from harness.sweep.until_decided import rounds_until_decided
from harness.sweep.windows import KnownSpread, known_spreads, with_chosen_windows
from reports.analysis.step_times import throughput_of

MEASURED_LATER = Condition(
    name="measured_later", seen="its backend was compiled after the first rounds of the other cells"
)


class Watcher(TrialWatcher, Protocol):
    """Shows people the progress of a sweep."""

    def ends(self, trial: Trial) -> None: ...

    def may_follow(self, trials: int) -> None:
        """How many trials may follow at most, where that changes."""


class Extension(Protocol):
    """Adds cases to a sweep whose planned rounds have been run."""

    @property
    def once_round(self) -> int:
        """The round of a case in which what is measured once is measured: the overhead and the device's peak."""

    def round_ended(self, number: int) -> None:
        """Called after each round of the plan."""

    def extended(self) -> SweepInfo | None:
        """The sweep with further cases in its plan, as it is stored now; ``None``: there are none."""


class NoExtension:
    """Adds nothing."""

    once_round = 0

    def round_ended(self, number: int) -> None:
        return

    def extended(self) -> SweepInfo | None:
        return None


NO_EXTENSION = NoExtension()


def run_sweep(sweep: PreparedSweep, watcher: Watcher, extension: Extension = NO_EXTENSION) -> None:
    """Run every trial of the plan that the store does not hold, in shuffled rounds; each is stored when it ends.

    Args:
        sweep: The sweep.
        watcher: Shows progress.
        extension: What adds cases when these have been run.

    Raises:
        StoreError: The store, or the disk of the folder, takes no further trial.
        KeyboardInterrupt: After an interrupt. It is deferred to where this waits: what was started is cancelled then.
    """
    with sweep.store.patient(), RunningTime() as running_time, interrupts_deferred(), closing(sweep.site):
        store_kept(sweep.folder, sweep.info.id, sweep.store)
        _Rounds(sweep, watcher, extension, running_time).run()


class _Rounds:
    def __init__(self, sweep: PreparedSweep, watcher: Watcher, extension: Extension, running_time: RunningTime) -> None:
        self.sweep, self.watcher, self.extension, self.running_time = sweep, watcher, extension, running_time
        self.info = sweep.info
        self.extending_s = 0.0
        """How long the extension took, in seconds."""
        self.spreads: list[KnownSpread] | None = None
        """Of the trials so far, where windows adapt to them. They are read from the store once: a sweep that decides
        after each trial would read all trials before each of them."""

    def run(self) -> None:
        """All rounds of the plan, those of its extension, and those that a precision needs."""
        run_rounds = self._run_planned if self.info.suite.until is None else self._run_until_decided
        run_rounds()
        began_s = self.running_time.seconds
        extended = self.extension.extended()
        self.extending_s = self.running_time.seconds - began_s
        if extended is not None:
            self.info = extended
            run_rounds()
        if self.info.suite.precision is not None:
            self._run_until_precise(self.info.suite.precision)
        self.sweep.store.finish_sweep(self.info.id, utc_now())

    def _run_planned(self) -> None:
        done = self.sweep.store.done(self.info.id)
        rounds = shuffled_rounds(self.info.plan, self.info.suite.seed)
        for round_number, planned in itertools.groupby(rounds, key=lambda one: one[0]):
            cases = [case for _, case in planned if (case.key, round_number) not in done]
            self._run_cases(round_number, cases)
            if cases:
                self.extension.round_ended(round_number)

    def _run_until_decided(self) -> None:
        whole_rounds = self.sweep.site.submits_rounds
        for following in rounds_until_decided(self.info, self.sweep.store, whole_rounds=whole_rounds):
            self.watcher.may_follow(following.most)
            self._run_cases(following.number, following.cases)
            if following.number == 0:
                self.extension.round_ended(0)

    def _run_until_precise(self, precision: float) -> None:
        def measuring_s() -> float:
            return self.running_time.seconds - self.sweep.access.waited_s - self.extending_s

        whole_rounds = self.sweep.site.submits_rounds
        for round_number, cases in rounds_until_precise(
            self.info, precision, self.sweep.store, measuring_s, whole_rounds=whole_rounds
        ):
            self._run_cases(round_number, cases)

    def _run_cases(self, round_number: int, cases: Sequence[Case]) -> None:
        """Run a trial of each case, and store it."""
        sweep = self.sweep
        planned = {case.key: case for case in cases}
        keeps_summaries = round_number >= self.info.plan.repeats - 1 and len(self.info.plan.cases) >= MIN_KEPT_CASES
        # The overhead and the device's peak are measured once a case: the former takes as long as a window.
        once = round_number == self.extension.once_round
        asked = [
            case.model_copy(update={"own_cost": case.own_cost and once, "roofline": case.roofline and once})
            for case in cases
        ]
        if any(case.adapt_window for case in asked):
            if self.spreads is None:
                self.spreads = known_spreads(read_whole_trials(sweep.store, self.info.id))
            asked = with_chosen_windows(asked, round_number, self.spreads)
        environment = self.info.environment.id
        this = Round(round_number, sweep.site, sweep.plugins.backends, sweep.folder, environment, sweep.access)
        for trial in run_round(asked, this, self.watcher):
            if trial.outcome in ("failed", "timeout") and is_full(sweep.folder):
                # Neither the store nor any further trial would fare better: this one is taken again.
                problem = f"folder {sweep.folder}: cannot be written (its disk is full)"
                raise StoreError(f"{problem}; free some space, {sweep.store.resume_hint()}")
            if trial.case.key in self.info.plan.later:
                trial = with_conditions(trial, (MEASURED_LATER,))
            try:
                stored = sweep.store.add_trial(self.info.id, trial)
            except BaseException:
                keep_unstored(sweep.folder, trial)
                raise
            if self.spreads is not None:
                self.spreads += known_spreads([stored])
            self.watcher.ends(stored)
            if keeps_summaries:
                keep_case(sweep.store, self.info.id, planned[trial.case.key])


def rounds_until_precise(
    info: SweepInfo, precision: float, store: Store, running_s: Callable[[], float], *, whole_rounds: bool
) -> Iterator[tuple[int, list[Case]]]:
    """Further rounds of the cases whose intervals are too wide, until none is or the budget is spent.

    The budget is checked before each case, or before each round where the site submits ``whole_rounds``. What counts of
    it is the time for which the sweep has run, ``running_s``.
    """
    done = store.done(info.id)
    # A round that was interrupted is completed: by what was known at its beginning, since its cases may run already.
    begun = max((number for _, number in done), default=0)
    for round_number in itertools.count(max(begun, info.plan.repeats)):
        imprecise = imprecise_cases(info.plan, _rates_before(store, info.id, round_number), precision)
        order = shuffle_cases(imprecise, info.suite.seed, round_number)
        order = [case for case in order if (case.key, round_number) not in done]
        for cases in [order] if whole_rounds and order else [[case] for case in order]:
            if running_s() > info.suite.budget_s:
                return
            yield round_number, cases
        if not imprecise:
            return


def _rates_before(store: Store, sweep: str, round_number: int) -> dict[str, list[float]]:
    """By case key, the throughputs of its successful trials of earlier rounds, by round."""
    throughputs = read_throughputs(store, sweep)
    others = read_whole_trials(store, sweep, without=throughputs.keys())
    throughputs |= {
        (trial.case.key, trial.round): throughput_of(trial.ranks) for trial in others if trial.outcome == "ok"
    }
    rates: dict[str, list[float]] = {}
    for (key, number), throughput in sorted(throughputs.items()):
        if number < round_number:
            rates.setdefault(key, []).append(throughput)
    return rates
