"""The JSON document of a sweep: every cell, and the findings over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.core.same_work import SameWork
from harness.planning.sources import NO_SOURCES
from harness.store.store import SweepInfo
from reports.analysis.axes import AxisComparison
from reports.analysis.cell_details import ReadingCell
from reports.analysis.cells import Cell
from reports.analysis.communication_paths import CommunicationPath, FittedExchange
from reports.analysis.decisions import Decisions
from reports.analysis.findings import Findings
from reports.analysis.operation_models import OperationModel
from reports.analysis.predictions import CurvePrediction
from reports.analysis.stats import Estimate
from reports.formats.curve_fits import curve_as_json
from reports.formats.documents import versioned


def as_json(
    info: SweepInfo,
    findings: Findings,
    page: Path,
    cost: Estimate | None,
    costs: Mapping[str, Estimate],
    problems: Sequence[str] = (),
) -> dict[str, Any]:
    """The document that ``sweep --json`` and ``report --json`` print. ``problems``: why there is no page."""
    fields = {
        "sweep": info.id,
        "title": info.shown_title,
        "note": info.note,
        "tags": list(info.tags),
        "report": str(page),
        "report_problem": "; ".join(problems) or None,
        "commit": info.environment.commit,
        "changed_files": info.environment.changed_files,
        "repository": info.environment.repository,
        "sources": info.sources.digest if info.sources else None,
        "sources_reason": None if info.sources else NO_SOURCES,
        "own_cost": _estimate(cost),
        "own_costs": {device: _estimate(value) for device, value in costs.items()},
        "cells": [cell_as_json(cell) for cell in findings.cells],
        "curves": [curve_as_json(curve) for curve in findings.curves.values()],
        "why": [why.model_dump(exclude={"case"}) for why in findings.bottlenecks],
        "exchanges": [_exchange_as_json(one) for path in findings.exchanges.values() for one in path.places.values()],
        "layers": [_layers_as_json(path) for path in findings.exchanges.values()],
        "operations": [_operation_as_json(model) for model in findings.operations],
        "placements": [one.model_dump(exclude={"case"}) for one in findings.placements.splits],
        "packed": [
            {**one.model_dump(), "packed": one.packed.key, "spread": one.spread.key}
            for one in findings.placements.packings
        ],
        "networks": [one.model_dump(exclude={"case"}) for one in findings.networks],
        "axes": [_axis_as_json(comparison) for comparison in findings.axes],
        "forecasts": [_forecast_as_json(found) for found in findings.curve_predictions],
        "forecasts_reason": findings.unpredicted_reason,
        "prices": [{**one.model_dump(exclude={"case"}), "key": one.case.key} for one in findings.priced],
        "decisions": _decisions_as_json(findings.decisions),
        "not_applicable": [{**_case_fields(skip.case), "reason": skip.reason} for skip in info.plan.not_applicable],
    }
    return versioned("sweep", fields)


def _exchange_as_json(found: FittedExchange) -> dict[str, Any]:
    return {
        "backend": found.case.backend,
        "transport": found.case.transport,
        "backend_options": found.case.backend_options,
        "env": found.case.env,
        "device": found.case.device,
        "site": found.case.site,
        "net": found.case.net,
        **found.model_dump(include={"place", "model", "reason", "rank_counts", "bus_bandwidth"}),
    }


def _operation_as_json(model: OperationModel) -> dict[str, Any]:
    return {
        "backend": model.case.backend,
        "transport": model.case.transport,
        "backend_options": model.case.backend_options,
        "env": model.case.env,
        "device": model.case.device,
        "site": model.case.site,
        "net": model.case.net,
        **model.model_dump(include={"operation", "place", "rank_counts", "latency_s", "byte_s", "misfit", "reason"}),
    }


def _layers_as_json(path: CommunicationPath) -> dict[str, Any]:
    """The communication of several ranks on each of several nodes, with back-tests of predicted allreduces."""
    return {
        "backend": path.case.backend,
        "transport": path.case.transport,
        "site": path.case.site,
        "net": path.case.net,
        **(path.layered.model_dump(exclude={"inside", "across"}) if path.layered else {}),
        "reason": path.layered_reason,
        "backtests": [{**one._asdict(), "misfit": one.misfit.model_dump()} for one in path.backtests()],
    }


def _axis_as_json(comparison: AxisComparison) -> dict[str, Any]:
    """What the values of an axis gain, each cell by its key."""
    points = [{**point.model_dump(exclude={"case"}), "key": point.case.key} for point in comparison.points]
    return {**comparison.axis.model_dump(), "points": points}


def _forecast_as_json(found: CurvePrediction) -> dict[str, Any]:
    return {
        **found.model_dump(exclude={"case", "explained", "backtests"}, by_alias=True),
        "explained": [{**one.model_dump(), "error": one.error} for one in found.explained],
        "backtests": [{**one.model_dump(), "error": one.error, "held": one.held} for one in found.backtests],
    }


def _decisions_as_json(found: Decisions | None) -> dict[str, Any] | None:
    """What a sweep decided that went on until it was; ``None`` of one with a fixed number of rounds."""
    if found is None:
        return None
    return {
        "margin": found.rule.margin,
        "error": found.rule.error,
        "trials": found.trials,
        "max_trials": found.max_trials,
        "max_repeats": found.rule.max_rounds,
        "noise": found.noise,
        "noise_source": found.noise_source,
        "answers": [decision.model_dump() for decision in found.decisions],
    }


def _case_fields(case: Case) -> dict[str, Any]:
    return {
        "workload": case.workload,
        "backend": case.backend,
        "transport": case.transport,
        "ranks": case.ranks,
        "scaling": case.scaling,
    }


def cell_as_json(cell: Cell) -> dict[str, Any]:
    """A cell of the document."""
    return {
        **_case_fields(cell.case),
        "key": cell.case.key,
        "title": cell.labels.title,
        "workload_options": cell.case.workload_options,
        "backend_options": cell.case.backend_options,
        "env": cell.case.env,
        "device": cell.case.device,
        "batch": cell.case.batch,
        "site": cell.case.site,
        "nodes": cell.case.nodes,
        "ranks_per_node": cell.case.ranks_per_node,
        "ranks_per_gpu": cell.case.ranks_per_gpu,
        "cost": _estimate(cell.cost),
        "cost_per_unit": cell.cost_per_unit,
        "cost_reason": cell.cost_reason,
        "net": cell.case.net,
        "link": cell.link.model_dump() if cell.link else None,
        "threads": cell.case.threads,
        "outcome": cell.outcome,
        "reason": cell.reason,
        "flags": list(cell.flags),
        "trials": cell.trials,
        "throughput": _estimate(cell.throughput),
        "step": _estimate(cell.step_s),
        "host_step": _estimate(cell.host_step_s),
        "speedup": _estimate(cell.speedup),
        "efficiency": _estimate(cell.efficiency),
        "scaling_reason": cell.scaling_reason,
        "same_work": None if cell.same_work is None else _proof(cell.same_work),
        "data": _data(cell.case),
        "computed_on": cell.device,
        "failures": [failure.model_dump() for failure in cell.failures],
        "log_tail": list(cell.log_tail),
        "settings": cell.settings,
        "variables": cell.variables,
        "readings": {reading.name: _estimate(reading.estimate) for reading in cell.readings},
        "reading_reasons": {reading.name: reading.reason for reading in cell.readings if reading.reason is not None},
        "usage": {reading.name: _reading(reading) for reading in cell.usage},
        "energy_errors": {error.name: error.model_dump(exclude={"name"}) for error in cell.energy_errors},
        "coverage": cell.coverage.model_dump() if cell.coverage else None,
        "update_timings": [timing.model_dump() for timing in cell.update_timings],
        "conditions": [condition.model_dump() for condition in cell.conditions],
        "contaminated_trials": cell.contaminated,
        "decomposition": cell.decomposition.model_dump() if cell.decomposition else None,
        "decomposition_reason": cell.decomposition_reason,
        "device_busy": _estimate(cell.device_busy_s),
        "device_busy_reason": cell.device_busy_reason,
        "launch_bound": cell.launch_bound.model_dump() if cell.launch_bound else None,
        "nccl": cell.nccl.model_dump() if cell.nccl else None,
        "nccl_reason": cell.nccl_reason,
        "roofline": cell.roofline.model_dump() if cell.roofline else None,
        "roofline_reason": cell.roofline_reason,
        "messages": [message.model_dump() for message in cell.messages],
        "program": cell.program.model_dump() if cell.program else None,
    }


def _proof(proof: SameWork) -> dict[str, Any]:
    return {
        "verdict": proof.verdict,
        "deviation": _finite(proof.deviation),
        "tolerance": proof.tolerance,
        "label": proof.label,
        "reason": proof.reason,
        "quantity": proof.quantity,
        "rounding": _finite(proof.rounding),
    }


def _data(case: Case) -> dict[str, Any] | None:
    if case.data is None:
        return None
    return {"name": case.data.name, "digest": case.data.digest, "stand_in": case.data.stands_for is not None}


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.model_dump()


def _reading(reading: ReadingCell) -> dict[str, Any]:
    """An unknown reading is null with its reason."""
    return {**(_estimate(reading.estimate) or {"value": None}), "reason": reading.reason}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN: a result that is not a number is null, and its verdict has the reason."""
    return value if value is not None and abs(value) < float("inf") else None
