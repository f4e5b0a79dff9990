"""Ingested benchmarks as series: each file was one run, all runs of a label are one night."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.pairs.trees import SHORT
from harness.storage.ledger import IngestedRun, Ledger, NightRow
from reports.verdicts.evidence import Accepted, Judged, NightFacts, unlike
from reports.verdicts.judge import NIGHTS_KEPT
from reports.verdicts.subjects import Subject
from reports.verdicts.values import NightOfTrials, Series

Runs = Mapping[str, Sequence[IngestedRun]]
"""By night."""


@dataclass(frozen=True)
class Ingested:
    """The newest ingested night with its series; without anything where it is not tonight's, nor the night before's."""

    night: str | None = None
    tonight: str | None = None
    """The same, where its runs are tonight's."""
    series: tuple[tuple[Subject, Series], ...] = ()
    past: tuple[NightFacts, ...] = ()
    """Commits and places of the nights before; no numbers."""
    commit: str | None = None
    """That tonight's runs measured."""
    judged: Judged = field(default_factory=Judged)
    runs: int = 0


def gather_ingested(ledger: Ledger, sweeps: Sequence[NightRow], newest: NightFacts | None) -> Ingested:
    """Tonight's runs are those since the sweep before the newest. Where the night before had some and tonight has
    none, they are missing. ``sweeps``: those before the newest, the oldest first.
    """
    nights = ledger.ingested_nights(NIGHTS_KEPT + 1)
    if not nights:
        return Ingested()
    runs: dict[str, dict[str, list[IngestedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in ledger.runs(nights):
        runs[run.benchmark][run.night].append(run)
    facts = {night: _facts(night, [one for of_it in runs.values() for one in of_it.get(night, ())]) for night in nights}
    began = facts[nights[-1]].started_at
    tonight = newest is None or not sweeps or began >= sweeps[-1].started_at
    if not tonight and len(sweeps) > 1 and began < sweeps[-2].started_at:
        return Ingested()
    accepted = tuple(Accepted(one.curve, one.since, one.at) for one in ledger.acceptances())
    judged = Judged(ledger.statuses(nights), accepted)
    past = nights[:-1] if tonight else nights
    last = nights[-1] if tonight else None
    found = (
        (subject, _series(subject, runs[subject.name], facts, past, last, judged))
        for subject in (Subject(name, "step", name, name, 0) for name in sorted(runs))
    )
    return Ingested(
        night=nights[-1],
        tonight=last,
        series=tuple((subject, one) for subject, one in found if one is not None),
        past=tuple(facts[night] for night in past),
        commit=facts[nights[-1]].commit if tonight else None,
        judged=judged,
        runs=sum(len(of_it.get(last, ())) for of_it in runs.values()) if last else 0,
    )


def _facts(night: str, runs: Sequence[IngestedRun]) -> NightFacts:
    """All runs of a night are of one place, or only those of its first count."""
    commit = runs[0].commit
    return NightFacts(
        night=night, started_at=max(run.at for run in runs), place=runs[0].place,
        commit=commit[:SHORT] if commit else None, numbers={}, settings={},
    )  # fmt: skip


def _series(
    subject: Subject,
    runs: Runs,
    facts: Mapping[str, NightFacts],
    past: Sequence[str],
    newest: str | None,
    judged: Judged,
) -> Series | None:
    """``None`` for a benchmark that was gone the night before already."""
    before = [night for night in past if night in runs]
    mine = runs.get(newest, ()) if newest else ()
    if not mine or newest is None:
        if not before or before[-1] != past[-1]:
            return None
        reason = f"run on {before[-1]}, and not on the newest night"
        return Series(name=subject.name, outcome="missing", reason=reason)
    order = {night: place for place, night in enumerate((*past, newest))}

    def night_of(night: str, *, good: bool) -> NightOfTrials:
        logs = tuple(math.log(median(run.seconds)) for run in runs[night])
        return NightOfTrials(night=night, logs=logs, level=judged.level(subject, facts[night], order), good=good)

    alike = [night for night in before if runs[night][0].place == mine[0].place]
    made = Series(
        name=subject.name,
        past=tuple(night_of(night, good=judged.good(subject, facts[night], order)) for night in alike),
        newest=night_of(newest, good=True),
    )
    if alike or not before:
        return made
    why = unlike(mine[0].place, runs[before[-1]][0].place)
    return made.model_copy(update={"outcome": "incomparable", "reason": why})
