"""The document of ``sweep --json`` and of ``report --json``, as types. See :mod:`harness.cli.document_types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from bench.core.case import Scalar, Scaling
from bench.core.collectives import Collective
from bench.core.nccl_report import NcclReport
from bench.core.records import Condition, Link, Outcome, RankFailure
from bench.core.same_work import SameWork
from bench.core.update_timing import UpdateTiming
from reports.analysis.axes import AxisPoint
from reports.analysis.backtest import Backtest
from reports.analysis.bottleneck import Bottleneck
from reports.analysis.cell_details import Coverage, Decomposition, MessageCell
from reports.analysis.communication import AllreduceModel
from reports.analysis.curve import Point
from reports.analysis.decisions import Decision
from reports.analysis.energy_errors import EnergyError
from reports.analysis.launch_bound import LaunchBound
from reports.analysis.laws import ScalingLaw
from reports.analysis.layered_allreduce import AlgorithmSource, LayeredAlgorithm, Misfit
from reports.analysis.placement import Place
from reports.analysis.placement_effects import CellOverLink, NodeEfficiency, Packing
from reports.analysis.predictions import CurvePrediction
from reports.analysis.price import PricedCell
from reports.analysis.program_runs import ProgramSummary
from reports.analysis.roofline import Roofline
from reports.analysis.scaling import FitMethod, Parameter, Prediction
from reports.analysis.sequential import NoiseSource
from reports.analysis.stats import Estimate
from reports.analysis.step_prediction import ModelledStep

Options = dict[str, Scalar]


@dataclass(frozen=True)
class Changed:
    """Marks a model that a document shows without some of its fields, or with others."""

    without: tuple[str, ...] = ()
    added: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        known = handler.resolve_ref_schema(handler(core_schema))["properties"]
        properties = {name: schema for name, schema in known.items() if name not in self.without}
        properties |= {name: handler(TypeAdapter(kind).core_schema) for name, kind in self.added.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}


class CaseFields(TypedDict):
    workload: str
    backend: str
    transport: str
    ranks: int
    scaling: Scaling


class NotApplicable(CaseFields):
    reason: str


class DecisionsFields(TypedDict):
    margin: float
    error: float
    trials: int
    max_trials: int
    max_repeats: int
    noise: float | None
    noise_source: NoiseSource
    answers: list[Decision]


class DataFields(TypedDict):
    name: str
    digest: str
    stand_in: bool


class Usage(TypedDict):
    """An estimate, or ``null`` with a reason."""

    value: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    n: NotRequired[int]
    unit: NotRequired[str]
    reason: str | None


class CellFields(CaseFields):
    key: str
    title: str
    workload_options: Options
    backend_options: Options
    env: dict[str, str]
    device: str
    batch: int
    site: str
    nodes: int
    ranks_per_node: int | None
    ranks_per_gpu: int
    cost: Estimate | None
    cost_per_unit: tuple[float, float] | None
    cost_reason: str | None
    net: str | None
    link: Link | None
    threads: int
    outcome: Outcome
    reason: str | None
    flags: list[str]
    trials: int
    throughput: Estimate | None
    step: Estimate | None
    host_step: Estimate | None
    speedup: Estimate | None
    efficiency: Estimate | None
    scaling_reason: str | None
    same_work: SameWork | None
    data: DataFields | None
    computed_on: str | None
    failures: list[RankFailure]
    log_tail: list[str]
    settings: dict[str, str]
    variables: dict[str, str] | None
    readings: dict[str, Estimate | None]
    reading_reasons: dict[str, str]
    usage: dict[str, Usage]
    energy_errors: dict[str, Annotated[EnergyError, Changed(without=("name",))]]
    coverage: Coverage | None
    update_timings: list[UpdateTiming]
    conditions: list[Condition]
    contaminated_trials: int
    decomposition: Decomposition | None
    decomposition_reason: str | None
    device_busy: Estimate | None
    device_busy_reason: str | None
    launch_bound: LaunchBound | None
    nccl: NcclReport | None
    nccl_reason: str | None
    roofline: Roofline | None
    roofline_reason: str | None
    messages: list[MessageCell]
    program: ProgramSummary | None


class CurveFields(TypedDict):
    curve: str
    model: ScalingLaw | None
    method: FitMethod
    reason: str | None
    gamma: float | None
    sigma: float | None
    kappa: float | None
    intervals: dict[str, tuple[float | None, float | None] | None]
    standard_errors: dict[str, float | None]
    n_peak: float | None
    x_peak: float | None
    limit: float | None
    points: list[Point]
    speedup: dict[str, float]
    efficiency: dict[str, float]
    karp_flatt: dict[str, float | None]
    gustafson: dict[str, float | None]
    predictions: list[Prediction]
    prediction_weights: dict[ScalingLaw, float]
    prediction_reason: str | None
    flags: list[str]
    seen: dict[str, str]
    largest_relative_residual: float | None


class ExchangeFields(TypedDict):
    backend: str
    transport: str
    backend_options: Options
    env: dict[str, str]
    device: str
    site: str
    net: str | None
    place: Place
    model: AllreduceModel | None
    reason: str | None
    rank_counts: list[int]
    bus_bandwidth: float | None


class OperationFields(TypedDict):
    backend: str
    transport: str
    backend_options: Options
    env: dict[str, str]
    device: str
    site: str
    net: str | None
    operation: Collective
    place: Place
    rank_counts: list[int]
    latency_s: Parameter | None
    byte_s: Parameter | None
    misfit: float | None
    reason: str | None


class ExchangeBacktestFields(TypedDict):
    place: Place
    model: str
    smaller: list[int]
    ranks: int
    nodes: int
    misfit: Misfit


class LayerFields(TypedDict):
    backend: str
    transport: str
    site: str
    net: str | None
    algorithm: NotRequired[LayeredAlgorithm]
    source: NotRequired[AlgorithmSource]
    misfits: NotRequired[dict[str, Misfit]]
    reason: str | None
    backtests: list[ExchangeBacktestFields]


class AxisFields(TypedDict):
    key: str
    values: list[str]
    base: str
    base_is_default: bool
    points: list[Annotated[AxisPoint, Changed(without=("case",), added={"key": str})]]


StepFields = Annotated[ModelledStep, Changed(added={"error": float})]
BacktestFields = Annotated[Backtest, Changed(added={"error": float, "held": bool | None})]


class SweepDocument(TypedDict):
    sweep: str
    title: str
    note: str | None
    tags: list[str]
    report: str
    report_problem: str | None
    commit: str | None
    changed_files: bool | None
    repository: str | None
    sources: str | None
    sources_reason: str | None
    own_cost: Estimate | None
    own_costs: dict[str, Estimate]
    cells: list[CellFields]
    curves: list[CurveFields]
    why: list[Annotated[Bottleneck, Changed(without=("case",))]]
    exchanges: list[ExchangeFields]
    layers: list[LayerFields]
    operations: list[OperationFields]
    placements: list[Annotated[NodeEfficiency, Changed(without=("case",))]]
    packed: list[Annotated[Packing, Changed(added={"packed": str, "spread": str})]]
    networks: list[Annotated[CellOverLink, Changed(without=("case",))]]
    axes: list[AxisFields]
    forecasts: list[
        Annotated[
            CurvePrediction,
            Changed(without=("case",), added={"explained": list[StepFields], "backtests": list[BacktestFields]}),
        ]
    ]
    forecasts_reason: str | None
    prices: list[Annotated[PricedCell, Changed(without=("case",), added={"key": str})]]
    decisions: DecisionsFields | None
    """Of ``--until decided``; ``null`` of a sweep with a fixed number of rounds."""
    not_applicable: list[NotApplicable]
