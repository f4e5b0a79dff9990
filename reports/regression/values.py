"""What a verdict is made of and what it says: the nights of a series, the pairs that confirm a suspicion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.core.frozen_model import FrozenModel

Status = Literal["pass", "regressed", "improved", "suspect", "inconclusive", "incomparable", "new", "missing", "failed"]
"""``suspect``: pairs are wanted. ``inconclusive``: no answer, pairs or not. ``missing``: the history has it, the newest
night has not. ``failed``: it was run and gave no number. Of these only ``pass`` and ``improved`` are good news."""

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
"""Shares: what is called their log is the share itself, and they change by percentage points."""


class NightTrials(FrozenModel):
    """One series on one night."""

    night: str
    """A date or a sweep's id; their order is that of the series they stand in."""
    logs: tuple[float, ...]
    """Of each trial: ln of its value, of step times ln of the median step in seconds. Never of single steps."""
    level: int = 0
    """Counts the accepted changes before this night: only nights of the last level say where the series stands."""
    good: bool = True
    """Whether it may serve as a reference: not where a regression was found and not accepted."""


class MetricSeries(FrozenModel):
    """One number over the nights that may be compared, the oldest first.

    The logs of every series are such that more is worse: those of throughput and efficiency have their sign turned.
    """

    name: str
    metric: Metric = "step"
    past: tuple[NightTrials, ...] = ()
    newest: NightTrials | None = None
    outcome: Status | None = None
    """What is known without a judge: ``failed``, ``missing``, ``incomparable``, each with :attr:`reason`."""
    reason: str = ""
    pairs: tuple[float, ...] = ()
    """ln(head ÷ base) of each interleaved pair, in the order they were run."""
    more_is_better: bool = False
    """The sign of the logs was turned, and is turned back in what people read."""


class Verdict(FrozenModel):
    """The answer for one series."""

    name: str
    metric: Metric = "step"
    status: Status
    change_pct: float | None = None
    """Of the value itself, in per cent: +5 of a step time is slower, −5 of a throughput is slower; of
    :data:`SHARE_METRICS` in percentage points."""
    low_pct: float | None = None
    high_pct: float | None = None
    pairs_used: int = 0
    pairs_wanted: int = 0
    """Pairs in all that the rule asks for; 0 when it is decided."""
    nights: int = 0
    """Comparable nights behind it."""
    reason: str = ""


class Assurance(FrozenModel):
    """How often the rule is wrong and what it finds, as measured by ``check --calibrate``."""

    checks: int
    false_alarms: int
    false_alarm_rate: float
    false_alarm_high: float
    """Upper end of the 95 % Clopper–Pearson interval."""
    source: str
    """What it was measured on, with the command."""
    found_pct: dict[str, float] = Field(default={})
    """Nights within which 95 % are found → the smallest such slowdown in per cent, by the number of nights as text."""


FindingKind = Literal["slower", "lost scaling", "more memory", "more energy", "faster", "other"]


class Finding(FrozenModel):
    """What the verdicts of one curve say together: four slower rank counts are one slowdown, or one loss of scaling."""

    curve: str
    kind: FindingKind
    status: Status
    ranks: tuple[int, ...] = ()
    """Where it shows."""
    change_pct: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    said: str
    """One sentence for people, with the numbers."""
    verdicts: tuple[str, ...] = ()
    """Names of the series behind it."""


class Judgement(FrozenModel):
    """All that one ``check`` has to say."""

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
    """The worst first; of everything that is no plain pass."""
    trials: int = 0
    """Of the night itself."""
    extra_trials: int = 0
    """Spent on pairs."""
    assurance: Assurance | None = None
    command: str = ""
    again: tuple[str, ...] = ()
    """Options that a further command needs to speak of the same sweeps: ``--store``, ``--suite``."""
    from_files: bool = False
    """The numbers came from CSV files, not from a store."""
