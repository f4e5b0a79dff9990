"""Values of a check: series over nights, verdicts on them, findings over curves, and the judgement of all."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.core.frozen_model import FrozenModel

Status = Literal["pass", "regressed", "improved", "suspect", "inconclusive", "incomparable", "new", "missing", "failed"]
"""``suspect``: pairs are needed. ``inconclusive``: no answer, with or without pairs. ``incomparable``: earlier nights
ran on another machine or other versions. ``new``: too few earlier nights; of a ratio, too few with its present base.
``missing``: in the history and not in the newest night. ``failed``: run without a valid number."""

WORST_FIRST: tuple[Status, ...] = (
    "regressed",
    "failed",
    "missing",
    "suspect",
    "inconclusive",
    "incomparable",
    "new",
    "improved",
    "pass",
)

Metric = Literal["step", "throughput", "memory", "energy", "efficiency", "serial", "exposed"]


SHARE_METRICS: tuple[Metric, ...] = ("serial", "exposed")
"""Metrics that are shares: their ``logs`` are the shares themselves, and they change by percentage points."""


class NightTrials(FrozenModel):
    """The trials of one series on one night."""

    night: str
    """A date or a sweep's id. Nights are ordered by their position in a series, not by name."""
    logs: tuple[float, ...]
    """One number a trial: ln of its value; for step times ln of the median step in seconds."""
    level: int = 0
    """Number of accepted changes before this night: only nights at the newest level are references."""
    good: bool = True
    """Whether it may serve as reference: not with a regression that was not accepted."""


class MetricSeries(FrozenModel):
    """One metric over comparable nights, the oldest first.

    Logs are such that more is worse: those of throughput and efficiency are negated.
    """

    name: str
    metric: Metric = "step"
    past: tuple[NightTrials, ...] = ()
    newest: NightTrials | None = None
    outcome: Status | None = None
    """A status that is known before judging: ``failed``, ``missing`` or ``incomparable``, with :attr:`reason`."""
    reason: str = ""
    pairs: tuple[float, ...] = ()
    """ln(head ÷ base) of each interleaved pair, in the order they were run."""
    more_is_better: bool = False
    """Whether the logs are negated; verdicts show the change of the quantity itself."""


class Verdict(FrozenModel):
    """The verdict on one series."""

    name: str
    place: str = ""
    """What tells its place (machine, interpreter, versions) from the others of the night, and ends :attr:`name`; empty
    where there is one place."""
    metric: Metric = "step"
    status: Status
    change_pct: float | None = None
    """Change of the quantity itself in per cent: +5 is slower for a step time, −5 is slower for a throughput; for
    :data:`SHARE_METRICS` in percentage points."""
    low_pct: float | None = None
    high_pct: float | None = None
    pairs_used: int = 0
    pairs_wanted: int = 0
    """Total number of pairs that the rule needs; 0 where decided."""
    nights: int = 0
    """Number of comparable nights."""
    compared_since: str | None = None
    """The first night that it was compared with, where that began with an improvement; ``None``: all of them."""
    reason: str = ""
    not_confirmable: str = ""
    """Of a suspect: why no pairs can be run for it here; empty where they can."""


class Assurance(FrozenModel):
    """Error rates of the rule, as measured by ``check --calibrate``."""

    checks: int
    false_alarms: int
    false_alarm_rate: float
    false_alarm_high: float
    """Upper end of the 95 % Clopper–Pearson interval."""
    source: str
    """The histories it was measured on, and the command."""
    found_pct: dict[str, float] = Field(default={})
    """Number of nights (as text) → the smallest slowdown in per cent of which 95 % are found within so many nights."""


FindingKind = Literal["slower", "lost scaling", "more memory", "more energy", "faster", "other"]


class Finding(FrozenModel):
    """Verdicts of one curve combined: four slower rank counts are one slowdown, or one loss of scaling."""

    curve: str
    place: str = ""
    """As of its verdicts."""
    kind: FindingKind
    status: Status
    ranks: tuple[int, ...] = ()
    """The rank counts concerned."""
    change_pct: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    said: str
    """One sentence with the numbers."""
    verdicts: tuple[str, ...] = ()
    """Names of the series that it summarizes."""


class Judgement(FrozenModel):
    """The result of one ``check``."""

    judged: str
    """The newest night: a sweep's id, or the night of a CSV file."""
    started_at: str | None = None
    """ISO 8601."""
    commit: str | None = None
    base_commit: str | None = None
    machine: str | None = None
    verdicts: tuple[Verdict, ...]
    """The worst first."""
    findings: tuple[Finding, ...] = ()
    """The worst first; series that pass have none."""
    trials: int = 0
    """Trials of the night itself."""
    extra_trials: int = 0
    """Trials spent on pairs."""
    assurance: Assurance | None = None
    command: str = ""
    again: tuple[str, ...] = ()
    """Options that a further command needs for the same sweeps: ``--store``, ``--suite``."""
    selected: tuple[str, ...] = ()
    """Options that a further check needs beside these: ``--sweep``, ``--baseline``."""
    from_files: bool = False
    """Whether the numbers came from CSV files instead of a store."""
