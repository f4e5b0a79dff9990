"""Reads hyperfine's JSON files (``--export-json``).

Each timing is a fresh process, and so a run of its command. The file names neither machine nor moment: a run is of the
moment at which the file was written, and of the machine that ``SCALING_MACHINE`` names.
The format: https://github.com/sharkdp/hyperfine, of version 1.15.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.errors import UsageError
from harness.importers import FileRuns, Importer
from harness.importers.documents import Section, read_document

REMEDY = "write it again with `hyperfine --export-json FILE`"
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Result(Section):
    command: str = Field(min_length=1)
    times: tuple[Seconds, ...] = Field(min_length=1)
    exit_codes: tuple[int | None, ...] = ()


class _File(Section):
    results: tuple[_Result, ...] = Field(min_length=1)


def read_hyperfine(path: Path, night: str | None = None) -> FileRuns:
    """Read the runs in a file. ``night``: their label; default: the day of the file. Raises :class:`UsageError`."""
    source, file = read_document(path, night, _File, "hyperfine", REMEDY)
    runs, notes = [], []
    named: set[str] = set()
    for result in file.results:
        if result.command in named:
            raise UsageError(f"{path}: holds the command '{result.command}' twice; measure it once")
        named.add(result.command)
        # Without exit codes hyperfine has ended at the first failure.
        codes = result.exit_codes or (0,) * len(result.times)
        good = [time_s for time_s, code in zip(result.times, codes, strict=False) if code == 0]
        if len(good) < len(result.times):
            notes.append(f"{path}: {len(result.times) - len(good)} runs of '{result.command}' failed and are left out")
        runs += [
            source.run(result.command, number, (time_s,), source.modified_at, {}) for number, time_s in enumerate(good)
        ]
    if not runs:
        raise UsageError(f"{path}: every run failed; correct the commands and measure again")
    return FileRuns(runs, tuple(notes))


IMPORTER = Importer(
    "hyperfine's JSON",
    read_hyperfine,
    signature=re.compile(rb'\A\s*\{\s*"results"\s*:\s*\[\s*\{\s*"command"\s*:'),
)
