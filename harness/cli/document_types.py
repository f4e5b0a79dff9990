"""The documents that commands print with ``--json``, as types: what :mod:`harness.cli.json_schemas` makes schemas of.

Nothing is built of these types. Tests hold real documents to the schemas.
"""

from __future__ import annotations

from typing import Annotated, Any

from typing_extensions import TypedDict

from bench.core.case import Case
from harness.archive.folders import SweepFolder
from harness.archive.listing import State, SweepEntry
from harness.archive.selection import KeptSweep
from harness.cli.config import EffectiveOption
from harness.cli.sweep_document_types import Changed, CurveFields
from harness.planning.plan import Skip
from harness.setup.doctor import Diagnostic
from harness.setup.trying import Attempt
from harness.store.deletion import StoredRows
from harness.sweep.duration import SweepDuration
from reports.analysis.answers import WorkloadAnswer
from reports.analysis.comparison import Direction
from reports.analysis.stats import Estimate
from reports.regression.calibration import Calibration
from reports.regression.rule import Rule
from reports.regression.values import Assurance, Finding, Status, Verdict


class PlanDocument(TypedDict):
    cases: list[Case]
    skips: list[Skip]
    not_applicable: list[Skip]
    repeats: int
    files: dict[str, dict[str, str]]
    duration: SweepDuration


class ConfigDocument(TypedDict):
    file: str | None
    plugins: list[str]
    suites: list[str]
    options: list[EffectiveOption]


class ChangeFields(TypedDict):
    key: str
    against: str
    ratio: Estimate | None
    direction: Direction
    reason: str | None
    check: Status | None
    check_reason: str | None


class ComparisonFields(TypedDict):
    first: str
    other: str
    across: bool
    only_first: int
    only_other: int
    changes: list[ChangeFields]


class ComparisonDocument(TypedDict):
    sweeps: dict[str, str]
    report: str | None
    comparisons: list[ComparisonFields]


class IndexedSweep(TypedDict):
    sweep: str
    report: str
    written: bool


class IndexDocument(TypedDict):
    index: str
    sweeps: list[IndexedSweep]


class NextStepFields(TypedDict):
    said: str
    command: str


class VerdictDocument(TypedDict):
    judged: str
    started_at: str | None
    commit: str | None
    base_commit: str | None
    machine: str | None
    command: str
    again: list[str]
    exit: int
    headline: str
    counts: dict[Status, int]
    benchmarks: dict[str, Annotated[Verdict, Changed(without=("name",))]]
    verdicts: list[Verdict]
    findings: list[Finding]
    trials: int
    extra_trials: int
    assurance: Assurance | None
    next: list[NextStepFields]


class CalibrationDocument(TypedDict):
    calibrations: list[Calibration]
    assurance: Assurance
    rule: Rule
    own_history: str | None


ListedSweep = Annotated[SweepEntry, Changed(added={"disk_bytes": int})]


class SweepsDocument(TypedDict):
    sweeps: list[ListedSweep]
    more: int
    store_bytes: int | None


class ShowDocument(TypedDict):
    sweep: str
    title: str
    note: str | None
    tags: list[str]
    suite: str
    started_at: str
    finished_at: str | None
    state: State
    ok: int
    failed: int
    rows: StoredRows
    folder: SweepFolder | None
    reason: None
    disk_bytes: int
    command: str
    commit: str | None
    machine: str
    facts: dict[str, str]
    answers: list[WorkloadAnswer]


class DeletionDocument(TypedDict):
    deleted: bool
    sweeps: list[ListedSweep]
    kept: list[KeptSweep]
    disk_bytes: int
    problems: list[str]


class LabelsDocument(TypedDict):
    sweep: str
    title: str
    note: str | None
    tags: list[str]


class FitDocument(TypedDict):
    curves: list[CurveFields]
    left_out: dict[str, int]
    notes: list[str]


class OptionFields(TypedDict):
    name: str
    default: Any
    description: str


class SuiteFields(TypedDict):
    name: str
    summary: str


class BackendFields(SuiteFields):
    transports: dict[str, list[str]]
    options: list[OptionFields]


class WorkloadFields(SuiteFields):
    kind: str
    options: list[OptionFields]


class SiteFields(SuiteFields):
    options: list[OptionFields]
    lacking: str | None


class BrokenPlugin(TypedDict):
    kind: str
    name: str
    error: str


class ListDocument(TypedDict):
    backends: list[BackendFields]
    workloads: list[WorkloadFields]
    suites: list[SuiteFields]
    sites: list[SiteFields]
    probes: list[SuiteFields]
    formats: list[SuiteFields]
    importers: list[SuiteFields]
    broken: list[BrokenPlugin]


class DoctorDocument(TypedDict):
    findings: list[Diagnostic]


class NewDocument(TypedDict):
    kind: str
    name: str
    file: str
    next_step: str


class TryDocument(TypedDict):
    file: str
    workload: str
    ready: bool
    attempts: list[Attempt]
    command: str


class MergeDocument(TypedDict):
    sweeps: list[str]
    completed: list[str]
    trials: int
    left_out: list[str]
    beside: dict[str, int]
    labels: int


class IngestedNight(TypedDict):
    benchmarks: int
    added: int
    known: int


class IngestDocument(TypedDict):
    nights: dict[str, IngestedNight]
    notes: list[str]
