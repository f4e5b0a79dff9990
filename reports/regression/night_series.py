"""From comparable nights to series: one for each subject of a sweep, measured, failed or missing.

Pure functions of values that a caller has read from a store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.core.case import Case
from reports.regression.evidence import DATA, EarlierVerdicts, NightFacts, cell_differences, comparable
from reports.regression.places import PlacedNight, newest_round, place_of
from reports.regression.subjects import CellMeasures, Subject, logs_of, subjects_of
from reports.regression.values import MetricSeries, NightTrials


def series_of(
    cases: Sequence[Case],
    newest: NightFacts,
    past: Sequence[NightFacts],
    judged: EarlierVerdicts,
    pairs: Mapping[str, CellMeasures],
    only: str | None = None,
) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Every subject of the newest night's cases with its series.

    Args:
        cases: Planned and skipped cases of the newest night.
        newest: The night to judge.
        past: Nights before it, the oldest first.
        judged: Verdicts on these nights, and accepted changes.
        pairs: Numbers of the interleaved pairs by side, ``head`` and ``base``.
        only: The one night that may serve as reference; ``None`` for all good ones.
    """
    order = {night.night: index for index, night in enumerate((*past, newest))}
    known = []
    for subject in subjects_of(cases):
        series = _subject_series(subject, newest, past, judged, pairs, order, only)
        if series is not None:
            known.append((subject, series))
    return (*known, *_missing_series(cases, newest, past), *_missing_data(cases, newest, past))


def paired_series(cases: Sequence[Case], pairs: Mapping[str, CellMeasures]) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Every subject that the pairs measured, without any night; the step times also before there are pairs."""
    paired = []
    for subject in subjects_of(cases):
        logs = _pair_logs(subject, pairs)
        if logs or subject.metric == "step":
            series = MetricSeries(
                name=subject.name, metric=subject.metric, pairs=logs, more_is_better=subject.more_is_better
            )
            paired.append((subject, series))
    return tuple(paired)


def _subject_series(
    subject: Subject,
    newest: NightFacts,
    past: Sequence[NightFacts],
    judged: EarlierVerdicts,
    pairs: Mapping[str, CellMeasures],
    order: Mapping[str, int],
    only: str | None,
) -> MetricSeries | None:
    """The series of a subject; ``None`` where it was never measured, or another series reports its cell as failed."""
    failure = next((newest.failures[key] for key in subject.keys if key in newest.failures), None)
    if failure is not None:
        if subject.metric != "step":
            return None
        return MetricSeries(name=subject.name, metric="step", outcome="failed", reason=failure)
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
    why = cell_differences(subject.key, newest, wanted[-1]) or "the settings of its curve's first cell differ"
    return known.model_copy(update={"outcome": "incomparable", "reason": why})


def _unmeasured_series(
    subject: Subject,
    newest: NightFacts,
    past: Sequence[NightFacts],
    alike: Sequence[tuple[NightFacts, Mapping[int, float]]],
) -> MetricSeries | None:
    """Missing where the last comparable night measured it; what was dropped earlier is not reported."""
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
    """ln(head ÷ base) of every pair that both sides measured, in the order of the pairs."""
    head, base = (logs_of(subject, pairs.get(side, {})) for side in ("head", "base"))
    return tuple(head[number] - base[number] for number in sorted(head.keys() & base.keys()))


def _missing_series(
    cases: Sequence[Case], newest: NightFacts, past: Sequence[NightFacts]
) -> tuple[tuple[Subject, MetricSeries], ...]:
    """Cells of the last comparable night that the newest night does not plan."""
    planned = {case.key for case in cases}
    last = next((night for night in reversed(past) if night.place == newest.place), None)
    gone = [key for key in last.numbers if key not in planned and key not in newest.failures] if last else []
    missing = []
    for key in gone:
        curve, _, ranks = key.rpartition("/ranks=")
        subject = Subject(key, "step", curve, key, int(ranks) if ranks.isdigit() else 1)
        reason = f"measured on {last.night if last else '?'}, not part of the newest sweep"
        missing.append((subject, MetricSeries(name=key, outcome="missing", reason=reason)))
    return tuple(missing)


def _missing_data(
    cases: Sequence[Case], newest: NightFacts, past: Sequence[NightFacts]
) -> Iterator[tuple[Subject, MetricSeries]]:
    """Cells that the nights before measured on other data, where tonight's data has a history of its own.

    Without one they are incomparable, which says the same.
    """
    for case in cases:
        data = _data_of(newest, case.key)
        nights = [night for night in past if night.place == newest.place and _data_of(night, case.key)]
        if not data or data not in (_data_of(night, case.key) for night in nights):
            continue
        placed = [
            PlacedNight(night.night, frozenset({place_of({DATA: _data_of(night, case.key)})}), night.began_s)
            for night in (*nights, newest)
        ]
        for place, last in newest_round(placed, exclusive=True).missing.items():
            label = f"{DATA} {dict(place)[DATA]}"
            subject = Subject(case.key, "step", case.curve, case.key, case.ranks).at_place(label)
            reason = f"measured on {last} with {label}, and on the newest night with {DATA} {data}"
            yield subject, MetricSeries(name=subject.name, outcome="missing", reason=reason)


def _data_of(night: NightFacts, key: str) -> str:
    """The data that a night measured a cell on; empty where it did not."""
    return night.settings.get(key, {}).get(DATA, "") if key in night.numbers else ""
