"""NCCL's own log: written to the trial's folder, one file a rank, and read when the rank has measured.

NCCL logs how it connects ranks (``NCCL_DEBUG=INFO``) while it connects them, and no collective, so that steps are not
slowed down. The file of a trial that failed stays, and its warnings are named (:mod:`harness.sites.base.diagnosis`).
The lines are those of NCCL 2.18 to 2.28; one that is damaged, or of another form, is left out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.bounds import MAX_RANKS
from bench.core.case import Case
from bench.core.nccl_report import MAX_TEXT_LENGTH, MAX_TRANSPORTS, MAX_WARNINGS, NcclReport
from bench.core.records import RankRecord
from bench.core.text import one_line
from bench.host.regular_files import UnusableFile, open_regular

MAX_READ_BYTES = 2**22
"""Of the beginning of a log: a communicator of 1,000 ranks takes less."""
MAX_LINE_LENGTH = 2000
MAX_CONNECTIONS = 100_000
VARIABLES = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,ENV"}
FILE_VARIABLE = "NCCL_DEBUG_FILE"
RING_PATTERN = "4"

VERSION = re.compile(r"NCCL version (\d+\.\d+\.\d+)")
NETWORK = re.compile(r"NCCL INFO Using network (.+)")
COMMUNICATOR = re.compile(r"NCCL INFO .*comm \S+ rank \d+ nranks (\d{1,7}) ", re.IGNORECASE)
NODES = re.compile(r" nNodes (\d{1,7}) ")
CONNECTION = re.compile(
    r"NCCL INFO Channel (\d{1,4})(?:/\d{1,2})? : (\d{1,7})\[\w+\] -> (\d{1,7})\[\w+\](?: \[(send|receive)\])? via (.+)"
)
RING = re.compile(r"NCCL INFO Channel 00/\d{1,4} :((?: +\d{1,7})+) *$")
GRAPH = re.compile(r"NCCL INFO Pattern (\d+), .*\btype (\w+)/(\w+)")
CHANNELS = re.compile(r"NCCL INFO (\d{1,4}) coll channels,(?:.* (\d{1,4}) nvls channels,)?")
GPU_DIRECT = re.compile(r"NCCL INFO Connected all rings.* GDR (\d)")
WARNING = re.compile(r"NCCL WARN (.+)")
HARMLESS = re.compile(r"libibverbs|libmlx5|[Pp]lugin|NCCL_\w+ set by")
"""In warnings that NCCL writes on machines without a library that it can do without."""


def log_file(folder: Path, rank: int) -> Path:
    """Where NCCL writes its log for a rank."""
    return folder / f"nccl-{rank}.log"


def uses_nccl(case: Case) -> bool:
    """Whether NCCL may connect the ranks of a case (pure): a user's program on GPUs may choose it."""
    return case.transport == "nccl" or (case.program is not None and case.device == "cuda")


def log_variables(env: Mapping[str, str], file: Path) -> dict[str, str] | str:
    """The variables by which NCCL writes its log to a file (pure), or why there is none: the user has set one.

    Args:
        env: The environment of the rank.
        file: The log.
    """
    if "NCCL_DEBUG" in env or FILE_VARIABLE in env:
        name = "NCCL_DEBUG" if "NCCL_DEBUG" in env else FILE_VARIABLE
        return f"{name} is set: the log of NCCL is where that puts it"
    # NCCL replaces %h and %p.
    wanted = {**VARIABLES, FILE_VARIABLE: str(file).replace("%", "%%")}
    return {name: value for name, value in wanted.items() if name not in env}


def start_nccl_log(case: Case, folder: Path, rank: int) -> str | None:
    """Have NCCL write its log, where the case uses it; returns why it does not. NCCL reads that when ranks join."""
    if not uses_nccl(case):
        return None
    variables = log_variables(os.environ, log_file(folder, rank))
    if isinstance(variables, str):
        return variables
    os.environ.update(variables)
    return None


def with_nccl_report(record: RankRecord, case: Case, folder: Path, no_log: str | None) -> RankRecord:
    """The record with what NCCL's log says.

    Args:
        record: Of this rank.
        case: Its case.
        folder: The trial's folder.
        no_log: What :func:`start_nccl_log` returned.
    """
    if not uses_nccl(case):
        return record
    report = no_log or read_nccl_log(log_file(folder, record.rank))
    if isinstance(report, str):
        return record.model_copy(update={"nccl_reason": report})
    return record.model_copy(update={"nccl": report})


def read_nccl_log(file: Path) -> NcclReport | str:
    """What a log says, or why nothing is known."""
    try:
        with open_regular(file) as source:
            content = source.read(MAX_READ_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return "NCCL wrote no log: the ranks did not use it"
    except UnusableFile as problem:
        return f"the log of NCCL {problem}"
    except OSError as problem:
        return f"the log of NCCL can't be read: {problem.strerror}"
    # What follows the last end of a line was cut off.
    return parse_nccl_log(content.split("\n")[:-1])


class _Fact(NamedTuple):
    """A field of a report, the expression that finds it, and its value from the match."""

    field: str
    pattern: re.Pattern[str]
    value: Callable[[re.Match[str]], Any]


FACTS = (
    _Fact("version", VERSION, lambda match: match[1]),
    _Fact("network", NETWORK, lambda match: _short(match[1])),
    _Fact("channels", CHANNELS, lambda match: int(match[1])),
    _Fact("nvls_channels", CHANNELS, lambda match: None if match[2] is None else int(match[2])),
    _Fact("ring", RING, lambda match: _short(match[1])),
    _Fact("gpu_direct", GPU_DIRECT, lambda match: match[1] != "0"),
)
"""What is taken from the first line that says it."""


def parse_nccl_log(lines: Iterable[str]) -> NcclReport:
    """What the log of one rank says (pure).

    Args:
        lines: In any order, and whatever other lines are among them.
    """
    found: dict[str, Any] = {}
    connections: dict[tuple[int, int, int], str] = {}
    warnings: dict[str, None] = {}
    for text in lines:
        line = text[:MAX_LINE_LENGTH].rstrip()
        if "NCCL" not in line:
            continue
        for field, pattern, value in FACTS:
            if field not in found and (match := pattern.search(line)):
                found[field] = value(match)
        for field, pattern in (("ranks", COMMUNICATOR), ("nodes", NODES)):
            if (match := pattern.search(line)) and 1 <= int(match[1]) <= MAX_RANKS:
                found[field] = max(found.get(field, 1), int(match[1]))
        if (match := GRAPH.search(line)) and match[1] == RING_PATTERN:
            found |= {"path_inside": _short(match[2]), "path_to_network": _short(match[3])}
        if "NCCL INFO Connected all trees" in line:
            found["trees"] = True
        if (match := CONNECTION.search(line)) and match[4] != "receive" and len(connections) < MAX_CONNECTIONS:
            connections[int(match[1]), int(match[2]), int(match[3])] = transport_name(match[5])
        if (match := WARNING.search(line)) and len(warnings) < MAX_WARNINGS:
            warnings[_short(match[1])] = None
    transports = dict(Counter(connections.values()).most_common(MAX_TRANSPORTS))
    return NcclReport(**found, transports=transports, warnings=tuple(warnings))


def transport_name(text: str) -> str:
    """A transport without the number of its device or of the rank in between (pure): ``NET/IB/0/GDRDMA`` →
    ``NET/IB/GDRDMA``, ``P2P/CUMEM/read`` → ``P2P/CUMEM``."""
    # Later versions, and other libraries of its kind, write more behind it.
    words = text.split(" comm ")[0].split("(")[0].strip()
    parts = [part for part in words.split("/") if part not in ("", "read", "Shared")]
    named = [part for part in parts if not re.fullmatch(r"\d+(\[\w+\])?", part)]
    return _short("/".join(named)) or "unknown"


def find_warning(lines: Iterable[str]) -> str | None:
    """The first warning in a log that may be the cause of a failure (pure)."""
    matches = (WARNING.search(line[:MAX_LINE_LENGTH]) for line in lines)
    return next((_short(match[1]) for match in matches if match and not HARMLESS.search(match[1])), None)


def _short(text: str) -> str:
    return one_line(text, MAX_TEXT_LENGTH)
