"""What a trial's folder says of a job that outlives the harness: by it a resumed sweep finds the job again.

A trial under way: submitted or taken up again, waited for, and cleared away once what it measured is stored.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from bench.core.case import Case, Role
from bench.core.frozen_model import FrozenModel
from bench.node.layout import required_roles
from bench.plugins.backend import Backend
from harness.errors import HarnessError, StoreError
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult

HANDLE_FILE = "claim.json"


class JobHandle(FrozenModel):
    """Which trial a job was submitted for, and by what handle its site knows it."""

    case: Case
    round: int
    handle: str
    started_at: str
    began_s: float
    """When it was submitted, in seconds of the Unix epoch."""


def save_job_handle(folder: Path, job_handle: JobHandle) -> None:
    """Written as soon as the job is there."""
    (folder / HANDLE_FILE).write_text(job_handle.model_dump_json())


def delete_job_handle(folder: Path) -> None:
    """Nobody is to find this job again: it was cancelled."""
    (folder / HANDLE_FILE).unlink(missing_ok=True)


def read_job_handles(sweep_folder: Path) -> dict[tuple[str, int], tuple[JobHandle, Path]]:
    """By case key and round, with the trial's folder."""
    job_handles = {}
    for path in sweep_folder.glob(f"*/{HANDLE_FILE}"):
        with suppress(OSError, ValidationError):
            job_handle = JobHandle.model_validate_json(path.read_text())
            job_handles[job_handle.case.key, job_handle.round] = (job_handle, path.parent)
    return job_handles


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class RunningTrial(NamedTuple):
    """A trial's job, where it leaves what it leaves, and when it began: for people, and in seconds of the epoch."""

    job: Job
    folder: Path
    started_at: str
    began_s: float

    def wait(self, timeout_s: float) -> TrialResult:
        """Its ending. Where waiting itself fails in a way that the user can mend, the job and its claim stay: a resumed
        sweep takes it up. Whatever else comes between, a Ctrl-C too, ends it."""
        try:
            return self.job.wait(timeout_s)
        except HarnessError:
            raise
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        self.job.cancel()
        delete_job_handle(self.folder)

    def clear(self, *, succeeded: bool) -> None:
        """What it measured is safe: its folder goes, or stays for people to look into where it did not end well."""
        if succeeded:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            delete_job_handle(self.folder)

    @property
    def wall_s(self) -> float:
        return time.time() - self.began_s


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start_trial(case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path) -> RunningTrial:
    began = (utc_now(), time.time())
    request = _make_request(case, round_number, site, backend, sweep_folder)
    with disk_errors_reported(sweep_folder):
        return _with_handle(RunningTrial(site.start(request), request.folder, *began), case, round_number)


def start_all(
    cases: Sequence[Case], round_number: int, site: Site, backends: Mapping[str, Backend], sweep_folder: Path
) -> dict[str, RunningTrial]:
    """By key, where the site takes a whole round at once; else nothing."""
    if not site.submits_rounds or len(cases) < 2:
        return {}
    began = (utc_now(), time.time())
    request = [_make_request(case, round_number, site, backends[case.backend], sweep_folder) for case in cases]
    with disk_errors_reported(sweep_folder):
        running = [
            RunningTrial(job, item.folder, *began)
            for job, item in zip(site.submit_round(request), request, strict=True)
        ]
        return {case.key: _with_handle(item, case, round_number) for case, item in zip(cases, running, strict=True)}


def reattach_trial(job_handle: JobHandle, folder: Path, site: Site, backend: Backend) -> RunningTrial | None:
    """A job that was submitted before the sweep was interrupted, under way or ended; ``None`` where it is lost."""
    job = site.reattach(
        TrialRequest(job_handle.case, _roles(job_handle.case, backend, site), folder), job_handle.handle
    )
    if job is None:
        # Or the next one who looks would find this claim beside that of the job which takes its place.
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
    """A full or read-only disk as one line. Raises :class:`StoreError`."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in DISK_ERRORS:
            raise
        raise StoreError(
            f"folder {folder}: cannot be written ({problem.strerror}); free some space or make it "
            "writable, then `python -m harness sweep --resume`"
        ) from None
