"""Case → site → trial, stored at once. It decides nothing about what to run and nothing about what it means."""

from __future__ import annotations

import errno
import itertools
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.backends import Backend
from bench.case import Case
from bench.node import roles_of
from bench.records import Outcome, SameWork, Trial
from bench.telemetry import NodeTelemetry, cut
from harness.claims import Claim, claims_in, give_up, stake
from harness.errors import StoreError
from harness.plan import Plan, rounds, shuffled, still_wide
from harness.sites import Asked, Ending, Job, Site
from harness.storage.store import Store, SweepInfo
from reports.analysis.conditions import find_conditions
from reports.analysis.same_work import judge
from reports.analysis.throughput import throughput_of

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

OTHER_WORK = "not the same work"
"""How the reason of an invalid trial begins that was not contaminated: it spoils its cell."""


class Watcher(Protocol):
    """Is told what happens, to show it to people."""

    def begins(self, case: Case, round_number: int) -> None: ...

    def ends(self, trial: Trial) -> None: ...


def new_sweep_id() -> str:
    """Sorts by time, and two sweeps begun in the same second differ."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
        for round_number, case in _until_precise(info, info.suite.precision, store, deadline):
            run(round_number, [case])
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
    """The trials of a round, in its order. Jobs of an interrupted sweep are taken up where they are."""
    known = claims_in(folder)
    left = [case for case in cases if (case.key, round_number) not in known]
    packed = _submitted_together(left, round_number, site, backends, folder)
    try:
        for case in cases:
            watcher.begins(case, round_number)
            job = packed.pop(case.key, None) or _taken_up(known.get((case.key, round_number)), site, backends)
            yield run_trial(case, round_number, site, backends[case.backend], folder, environment, job)
    finally:
        for started in packed.values():
            started.job.cancel()
            give_up(started.folder)


class Started(NamedTuple):
    """A trial under way, and where it leaves what it leaves."""

    job: Job
    folder: Path
    began: float
    started_at: str


def _submitted_together(
    cases: Sequence[Case], round_number: int, site: Site, backends: Mapping[str, Backend], folder: Path
) -> dict[str, Started]:
    """By key, where the site takes a whole round at once; else nothing."""
    if not site.packs or len(cases) < 2:
        return {}
    asked = [Asked(case, roles_of(case, backends[case.backend]), _fresh(folder, round_number)) for case in cases]
    with _room_in(folder):
        jobs = site.start_round(asked)
    found = {}
    for one, job in zip(asked, jobs, strict=True):
        found[one.case.key] = _claimed(Started(job, one.folder, time.monotonic(), now()), one.case, round_number)
    return found


def _taken_up(known: tuple[Claim, Path] | None, site: Site, backends: Mapping[str, Backend]) -> Started | None:
    """A job that was submitted before the sweep was interrupted, under way or ended."""
    if known is None:
        return None
    claim, folder = known
    job = site.rejoin(Asked(claim.case, roles_of(claim.case, backends[claim.case.backend]), folder), claim.handle)
    return None if job is None else Started(job, folder, time.monotonic(), now())


def _fresh(sweep_folder: Path, round_number: int) -> Path:
    folder = sweep_folder / f"{round_number:02d}-{secrets.token_hex(4)}"
    with _room_in(sweep_folder):
        folder.mkdir(parents=True)
    return folder


def _claimed(started: Started, case: Case, round_number: int) -> Started:
    if started.job.handle is not None:
        stake(started.folder, Claim(case=case, round=round_number, handle=started.job.handle))
    return started


def _until_precise(info: SweepInfo, precision: float, store: Store, deadline: float) -> Iterator[tuple[int, Case]]:
    """Further rounds of the cells whose intervals are too wide, until none is or the time is spent."""
    for round_number in itertools.count(max((number for _, number in store.done(info.id)), default=-1) + 1):
        rates: dict[str, list[float]] = {}
        for trial in store.trials(info.id):
            if trial.outcome == "ok":
                rates.setdefault(trial.case.key, []).append(throughput_of(trial.ranks))
        wide = still_wide(info.plan, rates, precision)
        for case in shuffled(wide, info.suite.seed, round_number):
            if time.monotonic() > deadline:
                return
            yield round_number, case
        if not wide:
            return


def modules_of(plan: Plan, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """What the ranks of the plan will import beside torch, each once."""
    return tuple(dict.fromkeys(module for case in plan.cases for module in backends[case.backend].preload))


def run_trial(
    case: Case,
    round_number: int,
    site: Site,
    backend: Backend,
    sweep_folder: Path,
    environment: str,
    started: Started | None = None,
) -> Trial:
    """One fresh set of processes, or one that was ``started`` already. Its folder stays where the trial did not end
    well."""
    if started is None:
        folder, began, started_at = _fresh(sweep_folder, round_number), time.monotonic(), now()
        with _room_in(sweep_folder):
            job = site.start(Asked(case, roles_of(case, backend), folder))
        started = _claimed(Started(job, folder, began, started_at), case, round_number)
    ending = _wait(started, case.timeout_s)
    telemetry = telemetry_of(ending)
    outcome, reason, proof = assess(ending, case)
    conditions = find_conditions(ending.ranks, telemetry) if outcome == "ok" else ()
    serious = [condition for condition in conditions if condition.serious]
    if serious:
        outcome, reason = "invalid", f"contaminated: {serious[0].seen}"
    if outcome == "ok":
        shutil.rmtree(started.folder, ignore_errors=True)
    else:
        give_up(started.folder)
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
        wall_s=time.monotonic() - started.began,
        log_tail=ending.log_tail,
        telemetry=telemetry,
        conditions=conditions,
        link=ending.link,
        nodes=ending.nodes,
        cost=ending.cost,
    )


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """A full or read-only disk as one line. Raises :class:`StoreError`."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        raise StoreError(f"folder {folder}: cannot be written ({problem.strerror}); free some space or make it "
                         "writable, then `python -m harness sweep --resume`") from None  # fmt: skip


def telemetry_of(ending: Ending) -> tuple[NodeTelemetry, ...]:
    """Each node's recording, cut to the measured window of the ranks that were on it."""
    found = []
    for recording in ending.recordings:
        windows = [rank.window for rank in ending.ranks if rank.window and rank.host == recording.header.host]
        if windows:
            began_s = min(window.began_s for window in windows)
            found.append(cut(recording, began_s, max(window.ended_s for window in windows)))
    return tuple(found)


def _wait(started: Started, timeout_s: float) -> Ending:
    try:
        return started.job.wait(timeout_s)
    except BaseException:
        started.job.cancel()
        give_up(started.folder)
        raise


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
