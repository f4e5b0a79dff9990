"""Reads what ranks left in the folder of a trial. A rank may have written anything: files are checked and limited."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bench.core.flight_record import FlightRecord
from bench.core.recording import Recording, read_recording
from bench.core.records import RankFailure, RankRecord
from bench.core.text import one_line
from bench.host.logs import printable_line
from bench.host.regular_files import read_regular

RecordT = TypeVar("RecordT", RankRecord, RankFailure, FlightRecord)

MAX_RECORD_BYTES = 2**26
"""The largest record that is read: a thousand times that of an ordinary trial."""


def read_records(folder: Path, pattern: str, kind: type[RecordT], unreadable: list[str]) -> list[RecordT]:
    """The records of a trial.

    Args:
        folder: The trial's folder.
        pattern: The names of their files.
        kind: What they are.
        unreadable: Takes a sentence on each file that is none.
    """
    records = []
    for path in sorted(folder.glob(pattern)):
        try:
            records.append(kind.model_validate_json(read_regular(path, MAX_RECORD_BYTES).decode()))
        except (OSError, ValueError) as problem:
            detail = problem.strerror if isinstance(problem, OSError) else _first_line(problem)
            writer = path.stem.removeprefix("record-").removeprefix("failure-").replace("-", " ")
            title = f"rank {writer}" if writer.isdigit() else writer
            # A rank gave the file its name too.
            unreadable.append(one_line(f"{title} left a record that can't be read: {path.name} {detail}"))
    return records


def _first_line(problem: ValueError) -> str:
    if isinstance(problem, ValidationError):
        error = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in error["loc"])
        return printable_line(f"is incomplete or damaged ({f'{place}: ' if place else ''}{error['msg']})")
    if isinstance(problem, UnicodeDecodeError):
        return "is no text"
    return str(problem)


def read_recordings(folder: Path) -> tuple[Recording, ...]:
    """The recordings of the samplers; one that can't be read is left out."""
    recordings = []
    for path in sorted(folder.glob("telemetry-*.jsonl")):
        with contextlib.suppress(OSError, ValueError):
            recordings.append(read_recording(read_regular(path, MAX_RECORD_BYTES).decode().splitlines()))
    return tuple(recordings)
