"""A running trial: started or reattached, waited for, and removed once its result is stored.

The job of a trial may outlive the harness. Its handle is written to the trial's folder, so that a resumed sweep finds
the job again.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.core.case import Case, Role
from bench.core.frozen_model import FrozenModel
from bench.host.regular_files import read_regular
from bench.host.suspension import SuspensionWatch
from bench.node.layout import required_roles
from bench.plugins.backend import Backend
from harness.errors import HarnessError, StoreError
from harness.interrupts import interrupts_allowed
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult
from harness.sites.base.log_keeper import logs_kept_short, noisy_logs
from harness.sites.base.rank_files import MAX_RECORD_BYTES

HANDLE_FILE = "claim.json"


class JobHandle(FrozenModel):
    """The handle by which a site knows a job, with the trial that the job was submitted for."""

    case: Case
    round: int
    handle: str
    started_at: str
    began_s: float
    """When it was submitted, in seconds since the Unix epoch."""


def save_job_handle(folder: Path, job_handle: JobHandle) -> None:
    """Write the handle of a job to its trial's folder, as soon as the job exists."""
    (folder / HANDLE_FILE).write_text(job_handle.model_dump_json())


def replace_job_handle(folder: Path, handle: str) -> None:
    """Have the trial of a folder found by another job, which is to run it instead. Nothing is done where none is."""
    with suppress(OSError, ValueError):
        job_handle = JobHandle.model_validate_json(read_regular(folder / HANDLE_FILE, MAX_RECORD_BYTES).decode())
        save_job_handle(folder, job_handle.model_copy(update={"handle": handle}))


def delete_job_handle(folder: Path) -> None:
    """Delete the handle of a job that was cancelled or has ended."""
    (folder / HANDLE_FILE).unlink(missing_ok=True)


def read_job_handles(sweep_folder: Path) -> dict[tuple[str, int], tuple[JobHandle, Path]]:
    """The handles in a sweep's folder with the folders of their trials, by case key and round."""
    job_handles = {}
    for path in sweep_folder.glob(f"*/{HANDLE_FILE}"):
        with suppress(OSError, ValueError):
            job_handle = JobHandle.model_validate_json(read_regular(path, MAX_RECORD_BYTES).decode())
            job_handles[job_handle.case.key, job_handle.round] = (job_handle, path.parent)
    return job_handles


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class RunningTrial(NamedTuple):
    """The job of a trial, its folder, and when it began: as ISO 8601 text, in seconds since the Unix epoch, and by the
    monotonic clock of this process, which nobody sets; ``None`` where another process started it."""

    job: Job
    folder: Path
    started_at: str
    began_s: float
    since_s: float | None = None

    def wait(self, timeout_s: float) -> TrialResult:
        """Wait for its result, at most ``timeout_s`` seconds of running.

        A trial elsewhere runs on while this process is stopped or its machine sleeps, and its number counts. What was
        lost meanwhile, such as a connection or the end of a time limit, is no failure of the trial's: it is suspended.

        Raises:
            HarnessError: If waiting fails in a way that the user can mend. The job and its handle stay, and a resumed
                sweep reattaches the job. Any other exception, Ctrl-C included, cancels it.
        """
        watch = SuspensionWatch()
        try:
            watch.start()
            with logs_kept_short(lambda: self.job.own_logs) as dropped, interrupts_allowed():
                result = self.job.wait(timeout_s)
            result = replace(result, conditions=(*result.conditions, *noisy_logs(dropped)))
            return mark_suspended(result, watch.suspended_s)
        except HarnessError:
            raise
        except BaseException:
            self.cancel()
            raise
        finally:
            watch.stop()

    def cancel(self) -> None:
        """End its processes now, and delete its handle."""
        self.job.cancel()
        delete_job_handle(self.folder)

    def clear(self, *, succeeded: bool) -> None:
        """Remove its folder once its result is stored. That of a trial that did not succeed stays, for inspection."""
        if succeeded:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            delete_job_handle(self.folder)

    @property
    def wall_s(self) -> float:
        """Seconds since it was started; at least 0, whatever became of the clock since another process did that."""
        return max(0.0, time.time() - self.began_s) if self.since_s is None else time.monotonic() - self.since_s


def mark_suspended(result: TrialResult, suspended_s: float) -> TrialResult:
    """A result that did not succeed while this process did not run for so many seconds, as a suspended one (pure)."""
    if not suspended_s or result.suspended is not None or result.outcome not in ("failed", "timeout"):
        return result
    sentence = f"the harness did not run for {suspended_s:.0f} s"
    return replace(result, outcome="invalid", reason=f"suspended: {sentence}; {result.reason}", suspended=sentence)


def utc_now() -> str:
    """The current time as ISO 8601 text, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start_trial(case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path) -> RunningTrial:
    """Start a trial in a new folder of its sweep.

    Raises:
        StoreError: If the folder can't be written.
        HarnessError: If the site can't start it in a way that the user can mend.
    """
    began = (utc_now(), time.time(), time.monotonic())
    request = _make_request(case, round_number, site, backend, sweep_folder)
    with disk_errors_reported(sweep_folder):
        return _with_handle(RunningTrial(site.start(request), request.folder, *began), case, round_number)


def start_all(
    cases: Sequence[Case], round_number: int, site: Site, backends: Mapping[str, Backend], sweep_folder: Path
) -> dict[str, RunningTrial]:
    """Start all trials of a batch at once, where the site does that; returns them by case key, else none."""
    if not site.submits_rounds or len(cases) < 2:
        return {}
    began = (utc_now(), time.time(), time.monotonic())
    request = [_make_request(case, round_number, site, backends[case.backend], sweep_folder) for case in cases]
    with disk_errors_reported(sweep_folder):
        running = [
            RunningTrial(job, item.folder, *began)
            for job, item in zip(site.submit_round(request), request, strict=True)
        ]
        return {case.key: _with_handle(item, case, round_number) for case, item in zip(cases, running, strict=True)}


def reattach_trial(job_handle: JobHandle, folder: Path, site: Site, backend: Backend) -> RunningTrial | None:
    """The trial of a job that was submitted before its sweep was interrupted; ``None`` where the job no longer
    exists."""
    job = site.reattach(
        TrialRequest(job_handle.case, _roles(job_handle.case, backend, site), folder), job_handle.handle
    )
    if job is None:
        # Else the next resumed sweep would find this handle beside that of the job that replaces this one.
        delete_job_handle(folder)
        return None
    return RunningTrial(job, folder, job_handle.started_at, job_handle.began_s)


def _make_request(case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path) -> TrialRequest:
    folder = sweep_folder / f"{round_number:02d}-{secrets.token_hex(4)}"
    with disk_errors_reported(sweep_folder):
        folder.mkdir(parents=True)
    return TrialRequest(case, _roles(case, backend, site), folder)


def _roles(case: Case, backend: Backend, site: Site) -> tuple[Role, ...]:
    return required_roles(case, backend, services_provided=site.provides_services)


def _with_handle(running: RunningTrial, case: Case, round_number: int) -> RunningTrial:
    handle = running.job.handle
    if handle is not None:
        times = {"started_at": running.started_at, "began_s": running.began_s}
        save_job_handle(running.folder, JobHandle(case=case, round=round_number, handle=handle, **times))
    return running


@contextmanager
def disk_errors_reported(folder: Path) -> Iterator[None]:
    """A context that turns the errors of a full or read-only disk into one line.

    Raises:
        StoreError: Where such an error occurs.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in DISK_ERRORS:
            raise
        raise StoreError(
            f"folder {folder}: cannot be written ({problem.strerror}); free some space or make it "
            "writable, then `python -m harness sweep --resume`"
        ) from None
