"""What a check knows of nights: which are comparable with the newest, and which may serve as reference.

Pure functions of values that a caller has read from a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reports.analysis.trial_measures import NODE_PREFIX
from reports.regression.subjects import CellMeasures, Subject
from reports.regression.values import Metric, Status

Settings = Mapping[str, Mapping[str, str]]
DATA = "data"
"""The name of the setting that says which data a cell read."""


@dataclass(frozen=True)
class NightFacts:
    """One sweep, as far as a check needs it. Mappings are by case key."""

    night: str
    started_at: str
    place: Mapping[str, str]
    """Machine and versions by name; nights are comparable only where all are equal."""
    commit: str | None
    """``None`` also where files differed from it, because that code cannot be checked out again."""
    numbers: CellMeasures
    settings: Settings
    """Settings by cell that must be equal and are not part of the key: data, window, warm-up…"""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a cell has no valid number, or not all of its trials."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why a cell was not run."""

    @property
    def began_s(self) -> float:
        """:attr:`started_at` in seconds since 1970."""
        return datetime.fromisoformat(self.started_at).timestamp()


@dataclass(frozen=True)
class AcceptedLevel:
    """An intended change of level."""

    curve: str
    since: str
    """The first night of the new level."""
    at: str


@dataclass(frozen=True)
class EarlierVerdicts:
    """Verdicts of earlier checks, and changes that were accepted."""

    statuses: Mapping[tuple[str, str, Metric], Status] = field(default_factory=dict)
    """By night, series and metric."""
    accepted: tuple[AcceptedLevel, ...] = ()

    def level(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> int:
        """Number of accepted changes of the subject's curve up to and including a night."""
        return sum(
            level.curve == subject.curve and order.get(level.since, 0) <= order[night.night] for level in self.accepted
        )

    def good(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        """Whether a night may serve as reference: not with a regression that was not accepted afterwards."""
        return self._status(subject, night) != "regressed" or self._accepted(subject, night, order)

    def may_be_base(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        """Whether a night's code may be a base: not with a regression or an open suspicion."""
        left_open = self._status(subject, night) in ("regressed", "suspect", "inconclusive")
        return not left_open or self._accepted(subject, night, order)

    def _status(self, subject: Subject, night: NightFacts) -> Status | None:
        by_name = self.statuses.get((night.night, subject.name, subject.metric))
        # Before places were part of their names, verdicts on ingested benchmarks were stored by benchmark.
        return by_name or self.statuses.get((night.night, subject.key, subject.metric))

    def _accepted(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        return any(
            level.curve == subject.curve
            and order.get(level.since, 0) <= order[night.night]
            and night.started_at <= level.at
            for level in self.accepted
        )


def comparable(keys: Iterable[str], newest: NightFacts, night: NightFacts) -> bool:
    """Whether these cells were measured on the same machine and versions with the same settings.

    A cell that the newest night did not run has no settings there, and matches any.
    """
    return night.place == newest.place and all(
        _same_settings(newest.settings.get(key), night.settings.get(key)) for key in keys
    )


def _same_settings(here: Mapping[str, str] | None, there: Mapping[str, str] | None) -> bool:
    if here is None or there is None:
        return here is None
    # Facts about nodes that one of them did not record are unknown.
    return all(
        here.get(name) == there.get(name)
        for name in here.keys() | there.keys()
        if not name.startswith(NODE_PREFIX) or (name in here and name in there)
    )


def cell_differences(key: str, newest: NightFacts, night: NightFacts) -> str:
    """``torch 2.13.0, not 2.12.1; …``: why two nights of one cell are not comparable."""
    return describe_differences(
        {**newest.place, **newest.settings.get(key, {})}, {**night.place, **night.settings.get(key, {})}
    )


def describe_differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """``host b, not a``: the names with different values."""
    names = dict.fromkeys((*here, *there))
    return "; ".join(
        f"{name} {here.get(name, 'none')}, not {there.get(name, 'none')}"
        for name in names
        if here.get(name) != there.get(name)
    )
