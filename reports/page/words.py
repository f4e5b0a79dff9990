"""Numbers, names and sentences, the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.records import Case, Scalar
from reports.analysis.stats import Estimate, apart
from reports.cells import Cell

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """Three significant digits, with k, M, G or T from 10,000 on: ``15.8k``, ``3.41``, ``980``."""
    if not math.isfinite(value):
        return str(value)
    for factor, prefix in PREFIXES:
        if abs(value) >= factor and abs(value) >= 1e4:
            return f"{_three(value / factor)}{prefix}"
    return _three(value)


def _three(value: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}" if abs(value) < 1000 else f"{value:,.0f}"


def measured(found: Estimate | None) -> str:
    """``15.8k (15.1k–16.5k) samples/s``; without an interval just the value; ``–`` for none."""
    if found is None:
        return "–"
    unit = "" if found.unit in ("1", "×") else f" {found.unit}"
    return f"{number(found.value)}{interval(found)}{unit}"


def interval(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" ({number(found.low)}–{number(found.high)})"


def percent(found: Estimate | None) -> str:
    """``71 % (68–74)``"""
    if found is None:
        return "–"
    span = "" if found.low is None or found.high is None else f" ({found.low * 100:.0f}–{found.high * 100:.0f})"
    return f"{found.value * 100:.0f} %{span}"


def milliseconds(found: Estimate | None) -> str:
    return "–" if found is None else f"{number(found.value * 1e3)} ms"


def message_size(size: int) -> str:
    """``1 KiB``, ``64 MiB``."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def options(chosen: dict[str, Scalar]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(chosen.items()))


def workload_title(case: Case) -> str:
    """``synthetic (model=cnn)``, and *emulated compute* where the compute was a wait."""
    chosen = f" ({options(case.workload_options)})" if case.workload_options else ""
    emulated = ", emulated compute" if "emulated_compute" in case.flags else ""
    return f"{case.workload}{chosen}{emulated}"


def backend_title(case: Case) -> str:
    """``ddp/gloo (bucket_cap_mb=1)``"""
    transport = "" if case.transport == "none" else f"/{case.transport}"
    chosen = f" ({options(case.backend_options)})" if case.backend_options else ""
    return f"{case.backend}{transport}{chosen}"


def case_title(case: Case) -> str:
    return f"{workload_title(case)} · {backend_title(case)} · {case.ranks} rank{'s' * (case.ranks > 1)} · {case.scaling}"


def ranks(count: int) -> str:
    return f"{count} rank{'s' * (count != 1)}"


def group_key(cell: Cell) -> tuple[str, ...]:
    """Cells of one group belong into one figure: the same workload with the same options and scaling."""
    case = cell.case
    return (workload_title(case), case.scaling, case.device, f"batch={case.batch}", f"seed={case.seed}")


def answer(cells: Sequence[Cell]) -> str:
    """Which backend, how far: one sentence for the cells of one group, with intervals."""
    title = workload_title(cells[0].case)
    shown = [cell for cell in cells if cell.throughput is not None and "oversubscribed" not in cell.case.flags]
    several = [cell for cell in shown if cell.case.ranks > 1]
    if not shown:
        return f"{title}: no cell gave a number."
    if not several:
        best = max(shown, key=_rate)
        return f"{title}: {measured(best.throughput)} at {ranks(best.case.ranks)} ({backend_title(best.case)})."
    most = max(cell.case.ranks for cell in several)
    level = sorted((cell for cell in several if cell.case.ranks == most), key=_rate, reverse=True)
    best = level[0]
    parts = [f"{title}: at {ranks(most)} {backend_title(best.case)} is fastest with {measured(best.throughput)}"]
    if best.efficiency is not None:
        parts.append(f", {percent(best.efficiency)} of {best.case.scaling} scaling")
    if len(level) > 1:
        parts.append(_beside(best, level[1]))
    alone = max((cell for cell in shown if cell.case.ranks == 1), key=_rate, default=None)
    if alone is not None and _rate(alone) > _rate(best):
        parts.append(f"; one rank alone is faster still: {backend_title(alone.case)} with {measured(alone.throughput)}")
    return "".join(parts) + "."


def _beside(best: Cell, second: Cell) -> str:
    assert best.throughput is not None
    assert second.throughput is not None
    told = apart(best.throughput, second.throughput)
    name, value = backend_title(second.case), measured(second.throughput)
    if told is None:
        return f"; {name} has {value} (one trial each: no interval, so no verdict)"
    return f"; {name} follows with {value}" if told else f"; {name} can't be told from it ({value})"


def _rate(cell: Cell) -> float:
    return cell.throughput.value if cell.throughput else 0.0
