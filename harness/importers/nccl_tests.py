"""Reads the output of NVIDIA's nccl-tests: as it is printed, and as JSON (``-J FILE``).

A file is one run; each size and type, in place and out of place, is a series of the time of one operation. Rows with
wrong elements are left out. The printed output has no date, and before version 2.17 no name of the operation: the name
of the file stands for it. The environment that the JSON file holds is not read.
The format: https://github.com/NVIDIA/nccl-tests, ``src/util.cu``, versions 1 and 2 of its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from harness.errors import UsageError
from harness.importers import FileRuns, Importer
from harness.importers.documents import Section, Source, parse_time, read_document
from harness.importers.limits import MAX_LINE_BYTES, open_table

REMEDY = "name the whole output of a program of nccl-tests, or what its -J wrote"
MICROSECOND_S = 1e-6
ROW_START = re.compile(r"\s*(\d+)\s+(\d+)\s+(\S+)\s+(\S+)\s+(-?\d+)\s+(.*)")
"""Size in bytes, elements, type, reduction, root; what follows are the two halves."""
STARTING = re.compile(r"# Collective test starting: (\S+)")
LIBRARY = re.compile(r"nccl-library=(\d+)")
DEVICE = re.compile(r"#\s+Rank\s+\d+\s.*\bon\s+(\S+) device\s+\d+ \[[^\]]*\] (.+)")
PER_ITERATION = re.compile(r"per-iteration", re.IGNORECASE)
HALF = 4
"""Values of a half: time, algorithm and bus bandwidth, wrong elements."""
PER_ITERATION_VALUES = 4


@dataclass(frozen=True)
class _Timing:
    """The time of one operation."""

    title: str
    """Size, type and reduction."""
    in_place: bool
    time_us: float | None
    """``None`` where it was not measured."""
    wrong: float
    """Elements that were wrong; 0 where they were not checked."""


class _Half(Section):
    time: float | str | None = None
    cpu_time: float | str | None = None
    nwrong: float | str | None = None


class _Result(Section):
    size: int
    type: str
    redop: str
    out_of_place: _Half | None = None
    in_place: _Half | None = None


class _Device(Section):
    hostname: str = ""
    device_info: str = ""


class _Config(Section):
    devices: tuple[_Device, ...] = ()


class _File(Section):
    version: int
    start_time: str
    args: tuple[str, ...] = Field(min_length=1)
    nccl_version: int | None = None
    config: _Config = _Config()
    results: tuple[_Result, ...] = Field(min_length=1)


def read_nccl_tests(path: Path, night: str | None = None) -> FileRuns:
    """Read the run in a file. ``night``: its label; default: the day of the file. Raises :class:`UsageError`."""
    try:
        with path.open("rb") as file:
            is_json = file.read(MAX_LINE_BYTES).lstrip().startswith(b"{")
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror}); {REMEDY}") from None
    return _read_json(path, night) if is_json else _read_text(path, night)


def _read_json(path: Path, night: str | None) -> FileRuns:
    source, file = read_document(path, night, _File, "nccl-tests", REMEDY)
    place = _place([(one.hostname, one.device_info) for one in file.config.devices], file.nccl_version)
    timings = [
        _Timing(_title(result.size, result.type, result.redop), in_place, _microseconds(half), _number(half.nwrong))
        for result in file.results
        for in_place, half in ((False, result.out_of_place), (True, result.in_place))
        if half is not None
    ]
    return _runs(source, PurePath(file.args[0]).name, timings, place, parse_time(file.start_time), ())


def _read_text(path: Path, night: str | None) -> FileRuns:
    with open_table(path, compressed=False) as file:
        content = file.read()
    source, lines = Source(path, content, night), content.decode("utf-8", "replace").splitlines()
    program = next((match[1] for line in lines if (match := STARTING.match(line))), None)
    library = next((match[1] for line in lines if (match := LIBRARY.search(line))), None)
    devices = [(match[1], match[2].strip()) for line in lines if (match := DEVICE.match(line))]
    per_iteration = any(line.startswith("#") and PER_ITERATION.search(line) for line in lines)
    timings = [timing for line in lines for timing in _row_timings(line, per_iteration=per_iteration)]
    if not timings:
        raise UsageError(f"{path}: holds no row of results; {REMEDY}")
    notes = () if program else (f"{path}: does not name its operation: the name of the file stands for it",)
    return _runs(source, program or path.stem, timings, _place(devices, library), None, notes)


def _row_timings(line: str, *, per_iteration: bool) -> Iterator[_Timing]:
    """The out-of-place and the in-place time of a printed row; nothing of any other line."""
    match = ROW_START.fullmatch(line.rstrip())
    if match is None:
        return
    size, _, datatype, reduction, _, rest = match.groups()
    values = rest.split()
    width = HALF + (PER_ITERATION_VALUES if per_iteration else 0)
    for number, in_place in enumerate((False, True)):
        half = values[number * width : number * width + HALF]
        if len(half) == HALF:
            yield _Timing(_title(int(size), datatype, reduction), in_place, _number(half[0]) or None, _number(half[3]))


def _runs(
    source: Source, program: str, timings: list[_Timing], place: dict[str, Any], at: Any, notes: tuple[str, ...]
) -> FileRuns:
    wrong = [timing for timing in timings if timing.wrong]
    runs = [
        source.run(
            f"{program}, {timing.title}, {'in place' if timing.in_place else 'out of place'}",
            None,
            (timing.time_us * MICROSECOND_S,),
            at or source.modified_at,
            place,
        )
        for timing in timings
        if timing.time_us and not timing.wrong
    ]
    if wrong:
        shown = ", ".join(dict.fromkeys(timing.title for timing in wrong))
        notes = (*notes, f"{source.path}: results were wrong, and are left out: {shown}")
    if not runs:
        raise UsageError(f"{source.path}: holds no time of a right result; {REMEDY}")
    return FileRuns(runs, notes)


def _place(devices: list[tuple[str, str]], library: Any) -> dict[str, Any]:
    hosts, names = [host for host, _ in devices], [name for _, name in devices]
    return {
        "host": ", ".join(dict.fromkeys(hosts)),
        "gpu": ", ".join(dict.fromkeys(names)),
        "ranks": len(devices) or None,
        "nccl": library,
    }


def _title(size: int, datatype: str, reduction: str) -> str:
    return f"{size} B, {datatype}" + ("" if reduction == "none" else f", {reduction}")


def _microseconds(half: _Half) -> float | None:
    return _number(half.time if half.time is not None else half.cpu_time) or None


def _number(value: Any) -> float:
    """A finite number; 0 for what nccl-tests writes where there is none: nothing, ``N/A``, ``nan``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if 0 < number < float("inf") else 0.0


IMPORTER = Importer(
    "the output of nccl-tests",
    read_nccl_tests,
    signature=re.compile(
        rb"^#\s+size\s+count\s+type\s+redop\b"
        rb'|\A\s*\{\s*"version"\s*:\s*\d+\s*,\s*"start_time"\s*:',
        re.MULTILINE,
    ),
)
