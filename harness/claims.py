"""What a trial's folder says of a job that outlives the harness: by it a resumed sweep finds the job again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from bench.case import Case
from bench.records import FrozenModel

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
