"""Case → site → trial, stored at once. It decides nothing about what to run and nothing about what it means."""

from __future__ import annotations

import errno
import itertools
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench.node import roles_of

from bench.backends import Backend
from bench.case import Case
from bench.records import Outcome, SameWork, Trial
from bench.telemetry import NodeTelemetry, cut
from harness.errors import StoreError
from harness.plan import Plan, rounds, shuffled, still_wide
from harness.sites import Asked, Ending, Job, Site
from harness.store import Store, SweepInfo
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

    def run(round_number: int, case: Case) -> None:
        watcher.begins(case, round_number)
        # What measuring costs, and the device's peak, are asked once a case: the first takes as long as a window.
        once = {name: getattr(case, name) and round_number == 0 for name in ("own_cost", "roofline")}
        asked = case.model_copy(update=once)
        trial = run_trial(asked, round_number, site, backends[case.backend], folder, info.environment.id)
        store.add_trial(info.id, trial)
        watcher.ends(trial)

    for round_number, case in rounds(info.plan, info.suite.seed):
        if (case.key, round_number) not in done:
            run(round_number, case)
    if info.suite.precision is not None:
        for round_number, case in _until_precise(info, info.suite.precision, store, deadline):
            run(round_number, case)
    store.finish_sweep(info.id, now())


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
    case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path, environment: str
) -> Trial:
    """One fresh set of processes. Its folder stays where the trial did not end well."""
    folder = sweep_folder / f"{round_number:02d}-{secrets.token_hex(4)}"
    started_at, began = now(), time.monotonic()
    with _room_in(sweep_folder):
        folder.mkdir(parents=True)
        job = site.start(Asked(case, roles_of(case, backend), folder))
    ending = _wait(job, case.timeout_s)
    telemetry = telemetry_of(ending)
    outcome, reason, proof = assess(ending, case)
    conditions = find_conditions(ending.ranks, telemetry) if outcome == "ok" else ()
    serious = [condition for condition in conditions if condition.serious]
    if serious:
        outcome, reason = "invalid", f"contaminated: {serious[0].seen}"
    if outcome == "ok":
        shutil.rmtree(folder, ignore_errors=True)
    return Trial(
        case=case,
        round=round_number,
        outcome=outcome,
        reason=reason,
        ranks=ending.ranks,
        failures=ending.failures,
        same_work=proof,
        environment=environment,
        started_at=started_at,
        wall_s=time.monotonic() - began,
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


def _wait(job: Job, timeout_s: float) -> Ending:
    try:
        return job.wait(timeout_s)
    except BaseException:
        job.cancel()
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
