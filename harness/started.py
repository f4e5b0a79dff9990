"""A trial under way: submitted or taken up again, waited for, and cleared away once what it measured is stored."""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench.backends import Backend
from bench.case import Case
from bench.node import roles_of
from harness.claims import Claim, give_up, stake
from harness.errors import HarnessError, StoreError
from harness.sites import Asked, Ending, Job, Site

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Started(NamedTuple):
    """A trial's job, where it leaves what it leaves, and when it began: for people, and in seconds of the epoch."""

    job: Job
    folder: Path
    started_at: str
    began_s: float

    def wait(self, timeout_s: float) -> Ending:
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
        give_up(self.folder)

    def clear(self, *, well: bool) -> None:
        """What it measured is safe: its folder goes, or stays for people to look into where it did not end well."""
        if well:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            give_up(self.folder)

    @property
    def wall_s(self) -> float:
        return time.time() - self.began_s


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start(case: Case, round_number: int, site: Site, backend: Backend, sweep_folder: Path) -> Started:
    began = (now(), time.time())
    asked = _asked(case, round_number, backend, sweep_folder)
    with room_in(sweep_folder):
        return _claimed(Started(site.start(asked), asked.folder, *began), case, round_number)


def start_together(
    cases: Sequence[Case], round_number: int, site: Site, backends: Mapping[str, Backend], sweep_folder: Path
) -> dict[str, Started]:
    """By key, where the site takes a whole round at once; else nothing."""
    if not site.packs or len(cases) < 2:
        return {}
    began = (now(), time.time())
    asked = [_asked(case, round_number, backends[case.backend], sweep_folder) for case in cases]
    with room_in(sweep_folder):
        started = [Started(job, one.folder, *began) for job, one in zip(site.start_round(asked), asked, strict=True)]
        return {case.key: _claimed(one, case, round_number) for case, one in zip(cases, started, strict=True)}


def take_up(claim: Claim, folder: Path, site: Site, backend: Backend) -> Started | None:
    """A job that was submitted before the sweep was interrupted, under way or ended; ``None`` where it is lost."""
    job = site.rejoin(Asked(claim.case, roles_of(claim.case, backend), folder), claim.handle)
    if job is None:
        # Or the next one who looks would find this claim beside that of the job which takes its place.
        give_up(folder)
        return None
    return Started(job, folder, claim.started_at, claim.began_s)


def _asked(case: Case, round_number: int, backend: Backend, sweep_folder: Path) -> Asked:
    folder = sweep_folder / f"{round_number:02d}-{secrets.token_hex(4)}"
    with room_in(sweep_folder):
        folder.mkdir(parents=True)
    return Asked(case, roles_of(case, backend), folder)


def _claimed(started: Started, case: Case, round_number: int) -> Started:
    handle = started.job.handle
    if handle is not None:
        times = {"started_at": started.started_at, "began_s": started.began_s}
        stake(started.folder, Claim(case=case, round=round_number, handle=handle, **times))
    return started


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """A full or read-only disk as one line. Raises :class:`StoreError`."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        raise StoreError(f"folder {folder}: cannot be written ({problem.strerror}); free some space or make it "
                         "writable, then `python -m harness sweep --resume`") from None  # fmt: skip
