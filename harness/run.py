"""Case → site → trial, stored at once. It decides nothing about what to run and nothing about what it means."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench.backends import Backend
from bench.case import Case
from bench.records import Outcome, SameWork, Trial
from bench.telemetry import NodeTelemetry, cut
from harness.claims import claims_in
from harness.plan import Plan, rounds, shuffled, still_wide
from harness.sites import Ending, Site
from harness.started import Started, now, start, start_together, take_up
from harness.storage.store import Store, SweepInfo
from reports.analysis.conditions import find_conditions
from reports.analysis.same_work import judge
from reports.analysis.throughput import throughput_of

OTHER_WORK = "not the same work"
"""How the reason of an invalid trial begins that was not contaminated: it spoils its cell."""


class Watcher(Protocol):
    """Is told what happens, to show it to people."""

    def begins(self, case: Case, round_number: int) -> None: ...

    def ends(self, trial: Trial) -> None: ...


def new_sweep_id() -> str:
    """Sorts by time, and two sweeps begun in the same second differ."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def run_sweep(
    info: SweepInfo, store: Store, site: Site, backends: Mapping[str, Backend], folder: Path, watcher: Watcher
) -> None:
    """Run every trial of the plan that the store does not hold. Whatever happens, what has ended is in the store."""
    deadline = time.monotonic() + info.suite.budget_s
    done = store.done(info.id)

    def run(round_number: int, cases: Sequence[Case]) -> None:
        # What measuring costs, and the device's peak, are asked once a case: the first takes as long as a window.
        first = round_number == 0
        asked = [
            case.model_copy(update={"own_cost": case.own_cost and first, "roofline": case.roofline and first})
            for case in cases
        ]
        for trial in run_round(asked, round_number, site, backends, folder, info.environment.id, watcher):
            store.add_trial(info.id, trial)
            watcher.ends(trial)

    for round_number, planned in itertools.groupby(rounds(info.plan, info.suite.seed), key=lambda one: one[0]):
        run(round_number, [case for _, case in planned if (case.key, round_number) not in done])
    if info.suite.precision is not None:
        for round_number, cases in _until_precise(info, info.suite.precision, store, deadline, together=site.packs):
            run(round_number, cases)
    store.finish_sweep(info.id, now())


def run_round(
    cases: Sequence[Case],
    round_number: int,
    site: Site,
    backends: Mapping[str, Backend],
    folder: Path,
    environment: str,
    watcher: Watcher,
) -> Iterator[Trial]:
    """The trials of a round, in its order. Jobs of an interrupted sweep are taken up where they are; what a trial left
    is cleared away when the next one is asked for, since this one is stored by then."""
    claims = claims_in(folder)
    known = {case.key: claims[case.key, round_number] for case in cases if (case.key, round_number) in claims}
    packed = start_together([case for case in cases if case.key not in known], round_number, site, backends, folder)
    try:
        for case in cases:
            watcher.begins(case, round_number)
            backend = backends[case.backend]
            started = packed.pop(case.key, None)
            if started is None and case.key in known:
                started = take_up(*known[case.key], site, backend)
            if started is None:
                started = start(case, round_number, site, backend, folder)
            trial = trial_of(started, case, round_number, environment)
            yield trial
            started.clear(well=trial.outcome == "ok")
    finally:
        for left in packed.values():
            left.cancel()


def _until_precise(
    info: SweepInfo, precision: float, store: Store, deadline: float, *, together: bool
) -> Iterator[tuple[int, list[Case]]]:
    """Further rounds of the cells whose intervals are too wide, until none is or the time is spent: a case at a time,
    or a round."""
    for round_number in itertools.count(max((number for _, number in store.done(info.id)), default=-1) + 1):
        rates: dict[str, list[float]] = {}
        for trial in store.trials(info.id):
            if trial.outcome == "ok":
                rates.setdefault(trial.case.key, []).append(throughput_of(trial.ranks))
        wide = still_wide(info.plan, rates, precision)
        order = shuffled(wide, info.suite.seed, round_number)
        for cases in [order] if together and order else [[case] for case in order]:
            if time.monotonic() > deadline:
                return
            yield round_number, cases
        if not wide:
            return


def modules_of(plan: Plan, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """What the ranks of the plan will import beside torch, each once."""
    return tuple(dict.fromkeys(module for case in plan.cases for module in backends[case.backend].preload))


def run_trial(
    case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path, environment: str
) -> Trial:
    """One fresh set of processes. Its folder stays where the trial did not end well."""
    started = start(case, round_number, site, backend, sweep_folder)
    trial = trial_of(started, case, round_number, environment)
    started.clear(well=trial.outcome == "ok")
    return trial


def trial_of(started: Started, case: Case, round_number: int, environment: str) -> Trial:
    """Wait for a trial's end and say what it came to."""
    ending = started.wait(case.timeout_s)
    telemetry = telemetry_of(ending)
    outcome, reason, proof = assess(ending, case)
    conditions = find_conditions(ending.ranks, telemetry) if outcome == "ok" else ()
    serious = [condition for condition in conditions if condition.serious]
    if serious:
        outcome, reason = "invalid", f"contaminated: {serious[0].seen}"
    return Trial(
        case=case,
        round=round_number,
        outcome=outcome,
        reason=reason,
        ranks=ending.ranks,
        failures=ending.failures,
        same_work=proof,
        environment=environment,
        started_at=started.started_at,
        wall_s=started.wall_s,
        log_tail=ending.log_tail,
        telemetry=telemetry,
        conditions=conditions,
        link=ending.link,
        nodes=ending.nodes,
        cost=ending.cost,
        cost_reason=ending.cost_reason,
    )


def telemetry_of(ending: Ending) -> tuple[NodeTelemetry, ...]:
    """Each node's recording, cut to the measured window of the ranks that were on it."""
    found = []
    for recording in ending.recordings:
        windows = [rank.window for rank in ending.ranks if rank.window and rank.host == recording.header.host]
        if windows:
            began_s = min(window.began_s for window in windows)
            found.append(cut(recording, began_s, max(window.ended_s for window in windows)))
    return tuple(found)


def assess(ending: Ending, case: Case) -> tuple[Outcome, str | None, SameWork | None]:
    """Outcome, reason and same-work verdict of a trial (pure): all ranks present, and all did the same work."""
    if ending.outcome != "ok":
        return ending.outcome, ending.reason, None
    present = [record.rank for record in ending.ranks]
    if present != list(range(case.ranks)):
        missing = sorted(set(range(case.ranks)) - set(present))
        return "failed", f"rank {missing[0] if missing else '?'} left no record", None
    if len({len(record.step_s) for record in ending.ranks}) > 1:
        return "failed", "the ranks measured different numbers of steps", None
    proof = judge(ending.ranks)
    if proof.verdict == "different":
        return "invalid", f"{OTHER_WORK}: {proof.reason}", proof
    return "ok", None, proof
