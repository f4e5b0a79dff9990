"""From a stored sweep to its cells, its table and its page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.backends import Backend
from bench.records import Case, Trial
from bench.workloads import Workload
from harness.errors import UsageError
from harness.fitting import curve_as_json
from harness.outlook import NOTHING_ASKED, Outlook
from harness.store import SweepInfo
from reports.analysis.stats import Estimate
from reports.cells import Cell, make_cells
from reports.curves import curves_of
from reports.details import ReadingCell
from reports.exchanges import FittedExchange, exchanges_of
from reports.forecasts import Forecast, forecasts_of
from reports.page import words
from reports.page.html import render
from reports.page.model import make_page
from reports.trial_rows import SweepFacts
from reports.why import reasons


def cells_of(
    info: SweepInfo, trials: list[Trial], backends: Mapping[str, Backend], workloads: Mapping[str, Workload]
) -> tuple[Cell, ...]:
    """The cells of a sweep, in the plan's order, skipped ones included."""
    skipped = {skip.case.key: skip.reason for skip in info.plan.skips}
    cases = [*info.plan.cases, *(skip.case for skip in info.plan.skips)]
    order = {name: number for number, name in enumerate(info.suite.workloads)}
    cases.sort(key=lambda case: order.get(case.workload, 0))
    machinery = {
        case.key: sentence
        for case in cases
        if case.backend in backends
        and case.workload in workloads
        and (sentence := backends[case.backend].machinery.get(workloads[case.workload].kind))
    }
    return make_cells(cases, skipped, trials, machinery, info.suite.precision)


def facts_of(info: SweepInfo) -> SweepFacts:
    """What each row of an export repeats of its sweep."""
    here = info.environment
    known = here.model_dump(include=set(SweepFacts.model_fields))
    return SweepFacts(id=info.id, started_at=info.started_at, environment=here.id, **known)


def provenance(info: SweepInfo, cells: tuple[Cell, ...], cost: Estimate | None) -> list[tuple[str, str]]:
    """What a reader needs to repeat the sweep."""
    environment = info.environment
    changed = " with changed files" if environment.changed_files else ""
    sources = {
        f"{data.name}{f' — a stand-in, not {data.stands_for}' if data.stands_for else ''}, SHA-256 {data.digest}"
        for cell in cells
        if (data := cell.case.data) is not None
    }
    return [
        ("command", info.command),
        ("sweep", info.id),
        ("started, finished", f"{info.started_at}, {info.finished_at or 'not finished'}"),
        ("suite", f"{info.suite.name}, {info.plan.repeats} rounds in shuffled order, seed {info.suite.seed}"),
        ("commit", f"{environment.commit}{changed}" if environment.commit else "unknown: not a git checkout"),
        ("machine", f"{environment.host}: {environment.cpu}, {environment.cores} cores, "
                    f"{environment.memory_bytes / 2**30:.0f} GiB, GPUs: {', '.join(environment.gpus) or 'none'}"),
        ("system", f"{environment.system}, Python {environment.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())),
        ("harness's own cost", words.own_cost(cost)),
        *(("data", source) for source in sorted(sources)),
    ]  # fmt: skip


def write_page(
    info: SweepInfo, cells: tuple[Cell, ...], target: Path, cost: Estimate | None, outlook: Outlook = NOTHING_ASKED
) -> None:
    """Write the page; it appears under its name when it is whole. Raises :class:`UsageError`."""
    never = [(skip.case, skip.reason) for skip in info.plan.not_applicable]
    page = make_page(
        f"Scaling report: {info.suite.name}", cells, never, provenance(info, cells, cost), outlook.counts, outlook.link
    )
    write_whole(target, render(page))


def write_whole(target: Path, content: str | bytes) -> None:
    """Write beside the target, then rename. Raises :class:`UsageError` where that can't be done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            Path(partial).chmod(0o644)
            Path(partial).rename(target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise UsageError(f"{target}: cannot be written ({problem.strerror}); name another place") from None


def as_json(
    info: SweepInfo, cells: tuple[Cell, ...], page: Path, cost: Estimate | None, outlook: Outlook = NOTHING_ASKED
) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    curves = curves_of(cells)
    return {
        "sweep": info.id,
        "report": str(page),
        "own_cost": _estimate(cost),
        "cells": [_cell_as_json(cell) for cell in cells],
        "curves": [curve_as_json(curve) for curve in curves.values()],
        "why": [why.model_dump(exclude={"case"}) for why in reasons(cells, curves)],
        "exchanges": [_exchange_as_json(found) for found in exchanges_of(cells).values()],
        "forecasts": [
            _forecast_as_json(found) for found in forecasts_of(cells, curves, outlook.counts, outlook.link)
        ],
        "not_applicable": [
            {**_what(skip.case), "reason": skip.reason} for skip in info.plan.not_applicable
        ],
    }  # fmt: skip


def _exchange_as_json(found: FittedExchange) -> dict[str, Any]:
    return {
        "backend": found.case.backend,
        "transport": found.case.transport,
        "backend_options": found.case.backend_options,
        "device": found.case.device,
        **found.model_dump(include={"model", "reason", "rank_counts", "bus_bandwidth"}),
    }


def _forecast_as_json(found: Forecast) -> dict[str, Any]:
    return {
        **found.model_dump(exclude={"case", "explained", "backtests"}),
        "explained": [{**one.model_dump(), "error": one.error} for one in found.explained],
        "backtests": [{**one.model_dump(), "error": one.error, "held": one.held} for one in found.backtests],
    }


def _what(case: Case) -> dict[str, Any]:
    return {
        "workload": case.workload,
        "backend": case.backend,
        "transport": case.transport,
        "ranks": case.ranks,
        "scaling": case.scaling,
    }


def _cell_as_json(cell: Cell) -> dict[str, Any]:
    proof = cell.same_work
    return {
        **_what(cell.case),
        "key": cell.case.key,
        "title": words.case_title(cell.case),
        "workload_options": cell.case.workload_options,
        "backend_options": cell.case.backend_options,
        "device": cell.case.device,
        "batch": cell.case.batch,
        "threads": cell.case.threads,
        "outcome": cell.outcome,
        "reason": cell.reason,
        "flags": list(cell.flags),
        "trials": cell.trials,
        "throughput": _estimate(cell.throughput),
        "step": _estimate(cell.step_s),
        "speedup": _estimate(cell.speedup),
        "efficiency": _estimate(cell.efficiency),
        "scaling_reason": cell.scaling_reason,
        "same_work": None if proof is None else {
            "verdict": proof.verdict,
            "deviation": _finite(proof.deviation),
            "tolerance": proof.tolerance,
            "label": proof.label,
            "reason": proof.reason,
        },
        "data": _data(cell.case),
        "computed_on": cell.device,
        "failures": [failure.model_dump() for failure in cell.failures],
        "log_tail": list(cell.log_tail),
        "settings": cell.settings,
        "readings": {reading.name: _estimate(reading.estimate) for reading in cell.readings},
        "usage": {reading.name: _known(reading) for reading in cell.usage},
        "coverage": cell.coverage.model_dump() if cell.coverage else None,
        "conditions": [condition.model_dump() for condition in cell.conditions],
        "contaminated_trials": cell.contaminated,
        "decomposition": cell.decomposition.model_dump() if cell.decomposition else None,
        "roofline": cell.roofline.model_dump() if cell.roofline else None,
        "roofline_reason": cell.roofline_reason,
        "messages": [message.model_dump() for message in cell.messages],
    }  # fmt: skip


def _data(case: Case) -> dict[str, Any] | None:
    if case.data is None:
        return None
    return {"name": case.data.name, "digest": case.data.digest, "stand_in": case.data.stands_for is not None}


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.model_dump()


def _known(reading: ReadingCell) -> dict[str, Any]:
    """An unknown reading is null with its reason."""
    return {**(_estimate(reading.estimate) or {"value": None}), "reason": reading.reason}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN: a result that is not a number is null there, and its verdict says why."""
    return value if value is not None and abs(value) < float("inf") else None
