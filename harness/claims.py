"""What a trial's folder says of a job that outlives the harness: by it a resumed sweep finds the job again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from bench.case import Case
from bench.records import Value

FILE = "claim.json"


class Claim(Value):
    """Which trial a job was submitted for, and by what handle its site knows it."""

    case: Case
    round: int
    handle: str
    started_at: str
    began_s: float
    """When it was submitted, in seconds of the Unix epoch."""


def stake(folder: Path, claim: Claim) -> None:
    """Written as soon as the job is there."""
    (folder / FILE).write_text(claim.model_dump_json())


def give_up(folder: Path) -> None:
    """Nobody is to find this job again: it was cancelled."""
    (folder / FILE).unlink(missing_ok=True)


def claims_in(sweep_folder: Path) -> dict[tuple[str, int], tuple[Claim, Path]]:
    """By case key and round, with the trial's folder."""
    found = {}
    for path in sweep_folder.glob(f"*/{FILE}"):
        with suppress(OSError, ValidationError):
            claim = Claim.model_validate_json(path.read_text())
            found[claim.case.key, claim.round] = (claim, path.parent)
    return found
