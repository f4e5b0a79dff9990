"""From sweeps to series: which nights may be compared with the newest, and which may serve as reference. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.core.case import Case
from reports.regression.subjects import CellMeasures, Subject, logs_of, subjects_of
from reports.regression.values import Metric, MetricSeries, NightTrials, Status

Settings = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class NightFacts:
    """One sweep, as far as a check needs it. Mappings are by case key."""

    night: str
    started_at: str
    place: Mapping[str, str]
    """What must be the same before two nights may be compared, by name: machine and versions."""
    commit: str | None
    """``None`` too where files differed from it: nobody could check it out again."""
    numbers: CellMeasures
    settings: Settings
    """What must match beside the key: data, window, warm-up…"""
    troubles: Mapping[str, str] = field(default_factory=dict)
    """Why a cell has no number that counts, or not all of its trials."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why a cell was not run."""


@dataclass(frozen=True)
class AcceptedLevel:
    """A change of level that was meant."""

    curve: str
    since: str
    """The first night of the new level."""
    at: str


@dataclass(frozen=True)
class EarlierVerdicts:
    """What earlier checks found, and what was accepted since."""

    statuses: Mapping[tuple[str, str, Metric], Status] = field(default_factory=dict)
    """By night, series and metric."""
    accepted: tuple[AcceptedLevel, ...] = ()

    def level(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> int:
        """How many accepted changes of the subject's curve lie before or at a night."""
        return sum(
            one.curve == subject.curve and order.get(one.since, 0) <= order[night.night] for one in self.accepted
        )

    def good(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        """Whether it may serve as reference: not where a regression was found and not accepted afterwards."""
        return self._status(subject, night) != "regressed" or self._accepted(subject, night, order)

    def may_be_base(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        """Whether its code may be a base: not where a suspicion was left open either."""
        left_open = self._status(subject, night) in ("regressed", "suspect", "inconclusive")
        return not left_open or self._accepted(subject, night, order)

    def _status(self, subject: Subject, night: NightFacts) -> Status | None:
        return self.statuses.get((night.night, subject.name, subject.metric))

    def _accepted(self, subject: Subject, night: NightFacts, order: Mapping[str, int]) -> bool:
        return any(
            one.curve == subject.curve and order.get(one.since, 0) <= order[night.night] and night.started_at <= one.at
            for one in self.accepted
        )


def series_of(
    cases: Sequence[Case],
    newest: NightFacts,
    past: Sequence[NightFacts],
    judged: EarlierVerdicts,
    pairs: Mapping[str, CellMeasures],
    only: str | None = None,
) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Every subject of the newest night's ``cases`` with its nights; ``past``: the oldest first.

    ``pairs``: by side, the numbers of each pair. ``only``: the one night that may serve as reference.
    """
    order = {night.night: place for place, night in enumerate((*past, newest))}
    found = []
    for subject in subjects_of(cases):
        made = _subject_series(subject, newest, past, judged, pairs, order, only)
        if made is not None:
            found.append((subject, made))
    return (*found, *_missing_series(cases, newest, past))


def paired_series(cases: Sequence[Case], pairs: Mapping[str, CellMeasures]) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Every subject that pairs gave a number for, without any night; before there are some, the step times."""
    found = []
    for subject in subjects_of(cases):
        logs = _pair_logs(subject, pairs)
        if logs or subject.metric == "step":
            made = MetricSeries(
                name=subject.name, metric=subject.metric, pairs=logs, more_is_better=subject.more_is_better
            )
            found.append((subject, made))
    return tuple(found)


def comparable(keys: Iterable[str], newest: NightFacts, night: NightFacts) -> bool:
    """Whether these cells were measured in the same place with the same settings.

    A cell that the newest night did not run has no settings there, and may be any of its nights'.
    """
    return night.place == newest.place and all(
        newest.settings.get(key) in (None, night.settings.get(key)) for key in keys
    )


def cell_differences(key: str, newest: NightFacts, night: NightFacts) -> str:
    """``torch 2.13.0, not 2.12.1; …``: what keeps two nights of one cell from being compared."""
    return describe_differences(
        {**newest.place, **newest.settings.get(key, {})}, {**night.place, **night.settings.get(key, {})}
    )


def describe_differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """``host b, not a``: where two sets of names differ."""
    names = dict.fromkeys((*here, *there))
    return "; ".join(
        f"{name} {here.get(name, 'none')}, not {there.get(name, 'none')}"
        for name in names
        if here.get(name) != there.get(name)
    )


def _subject_series(
    subject: Subject,
    newest: NightFacts,
    past: Sequence[NightFacts],
    judged: EarlierVerdicts,
    pairs: Mapping[str, CellMeasures],
    order: Mapping[str, int],
    only: str | None,
) -> MetricSeries | None:
    """The series of a subject; ``None`` where the subject has never had a number, or its cell's trouble is told."""
    trouble = next((newest.troubles[key] for key in subject.keys if key in newest.troubles), None)
    if trouble is not None:
        told = subject.metric == "step"
        return MetricSeries(name=subject.name, metric="step", outcome="failed", reason=trouble) if told else None
    logs = logs_of(subject, newest.numbers)
    with_values = [(night, values) for night in past if (values := logs_of(subject, night.numbers))]
    alike = [(night, values) for night, values in with_values if comparable(subject.keys, newest, night)]
    if not logs:
        return _unmeasured_series(subject, newest, past, alike)
    known = MetricSeries(
        name=subject.name,
        metric=subject.metric,
        past=tuple(
            NightTrials(
                night=night.night,
                logs=tuple(values.values()),
                level=judged.level(subject, night, order),
                good=judged.good(subject, night, order) if only is None else night.night == only,
            )
            for night, values in alike
        ),
        newest=NightTrials(night=newest.night, logs=tuple(logs.values()), level=judged.level(subject, newest, order)),
        pairs=_pair_logs(subject, pairs),
        more_is_better=subject.more_is_better,
    )
    wanted = [night for night, _ in with_values if only in (None, night.night)]
    if not wanted or any(night in wanted for night, _ in alike):
        return known
    why = cell_differences(subject.key, newest, wanted[-1]) or "what its curve starts from was measured otherwise"
    return known.model_copy(update={"outcome": "incomparable", "reason": why})


def _unmeasured_series(
    subject: Subject,
    newest: NightFacts,
    past: Sequence[NightFacts],
    alike: Sequence[tuple[NightFacts, Mapping[int, float]]],
) -> MetricSeries | None:
    """Missing where the last night in this place had it; what was given up earlier is no news."""
    last = next((night for night in reversed(past) if night.place == newest.place), None)
    if not alike or alike[-1][0] is not last:
        return None
    return MetricSeries(
        name=subject.name,
        metric=subject.metric,
        outcome="missing",
        reason=newest.absent.get(subject.key, "no trial of the newest night gave this number"),
        more_is_better=subject.more_is_better,
    )


def _pair_logs(subject: Subject, pairs: Mapping[str, CellMeasures]) -> tuple[float, ...]:
    """ln(head ÷ base) of every pair that both sides measured, in their order."""
    head, base = (logs_of(subject, pairs.get(side, {})) for side in ("head", "base"))
    return tuple(head[number] - base[number] for number in sorted(head.keys() & base.keys()))


def _missing_series(
    cases: Sequence[Case], newest: NightFacts, past: Sequence[NightFacts]
) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Cells of the last night in this place that the newest does not even plan."""
    planned = {case.key for case in cases}
    last = next((night for night in reversed(past) if night.place == newest.place), None)
    gone = [key for key in last.numbers if key not in planned and key not in newest.troubles] if last else []
    found = []
    for key in gone:
        curve, _, ranks = key.rpartition("/ranks=")
        subject = Subject(key, "step", curve, key, int(ranks) if ranks.isdigit() else 1)
        reason = f"measured on {last.night if last else '?'}, and no part of the newest sweep"
        found.append((subject, MetricSeries(name=key, outcome="missing", reason=reason)))
    return tuple(found)
