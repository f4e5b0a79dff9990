"""Collective operations in the columns of NVIDIA's nccl-tests, one block for each case.

    #       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong

Sizes, counts and bandwidths are nccl-tests' (:mod:`bench.core.collectives`); a time is the median of a trial's slowest
rank, and the median over trials. Where the result was not in place, or was not out of place, its columns are ``N/A``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median

from bench.core.collectives import COLLECTIVES, DIVIDED, bus_factor
from reports.analysis import formatting
from reports.formats.exports import CannotExport, Export, Format
from reports.formats.trial_rows import SweepTable, TrialRow

ELEMENT_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int32": 4, "int64": 8}
TYPES = {"float64": "double", "float32": "float", "float16": "half"}
"""nccl-tests' names of types, where they are others."""
REDUCED = ("all_reduce", "reduce_scatter")
MISSING = f"{'N/A':>8} {'N/A':>7} {'N/A':>7} {'N/A':>6}"
HEADER = (
    f"#{'':61}{'out-of-place':^31}  {'in-place':^31}",
    f"#{'size':>11} {'count':>13} {'type':>9} {'redop':>7} {'root':>7} "
    + " ".join([f"{'time':>8} {'algbw':>7} {'busbw':>7} {'#wrong':>6}"] * 2),
    f"#{'(B)':>11} {'(elements)':>13} {'':>9} {'':>7} {'':>7} "
    + " ".join([f"{'(us)':>8} {'(GB/s)':>7} {'(GB/s)':>7} {'':>6}"] * 2),
)


def render(table: SweepTable) -> Export:
    """Raises :class:`CannotExport` where no trial timed an operation."""
    by_case: dict[str, list[TrialRow]] = {}
    for row in table.rows:
        if row.message_times_s and row.operation in COLLECTIVES:
            by_case.setdefault(f"{row.sweep} {row.case}", []).append(row)
    if not by_case:
        raise CannotExport("the sweeps hold no collective operation: sweep --workloads collectives")
    cases = {row.case for row in table.rows}
    left_out = len(cases) - len({rows[0].case for rows in by_case.values()})
    lines = [line for rows in by_case.values() for line in _block(rows)]
    notes = (f"left out {left_out} cases without a collective operation",) if left_out else ()
    return Export("".join(f"{line}\n" for line in lines), notes)


def _block(rows: Sequence[TrialRow]) -> Iterator[str]:
    first = rows[0]
    yield f"# nccl-tests columns: {first.operation}, {first.title}, {formatting.counted(len(rows), 'trial')}"
    yield from HEADER
    for size in sorted({int(size) for row in rows for size in row.message_times_s}):
        yield _line(rows, size)


def _line(rows: Sequence[TrialRow], size: int) -> str:
    first = rows[0]
    operation, name = first.operation or "", str(first.workload_options.get("datatype", "float32"))
    elements = size // ELEMENT_BYTES.get(name, 1)
    # Of an operation whose message has a part for each rank, nccl-tests counts the elements of a part.
    count = elements // first.ranks if operation in DIVIDED else elements
    time_s = median(row.message_times_s[str(size)] for row in rows if str(size) in row.message_times_s)
    algorithm = size / time_s / 1e9
    wrong = "0" if all(row.same_work == "same" for row in rows) else "N/A"
    factor = next(bus_factor(known, first.ranks) for known in COLLECTIVES if known == operation)
    measured = f"{time_s * 1e6:8.2f} {algorithm:7.4g} {factor * algorithm:7.4g} {wrong:>6}"
    root = 0 if operation == "broadcast" else -1
    redop = "sum" if operation in REDUCED else "none"
    places = (MISSING, measured) if first.in_place else (measured, MISSING)
    return f"{size:12d} {count:13d} {TYPES.get(name, name):>9} {redop:>7} {root:7d} {' '.join(places)}"


FORMAT = Format(
    "collective operations in the columns of nccl-tests",
    (".txt",),
    render,
    signature=re.compile(rb"\A# nccl-tests columns: "),
)
