"""Ingested benchmarks as series: each file was one run, all runs of a label are one night."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from harness.ledger import IngestedRun, Ledger, NightRow
from reports.verdicts.judge import NIGHTS_KEPT
from reports.verdicts.subjects import Subject
from reports.verdicts.values import Metric, NightOfTrials, Series, Status

Runs = Mapping[str, Sequence[IngestedRun]]
"""By night."""


def gather_ingested(
    ledger: Ledger, sweeps: Sequence[NightRow]
) -> tuple[str | None, tuple[tuple[Subject, Series], ...]]:
    """The newest ingested night and its series; ``None`` and nothing where that is not tonight's.

    Tonight's are those run since the sweep before the newest. Where the night before had some and tonight has none,
    they are missing. ``sweeps``: the oldest first.
    """
    nights = ledger.ingested_nights(NIGHTS_KEPT + 1)
    if not nights:
        return None, ()
    runs: dict[str, dict[str, list[IngestedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in ledger.runs(nights):
        runs[run.benchmark][run.night].append(run)
    began = max(run.at for of_it in runs.values() for run in of_it.get(nights[-1], ()))
    earlier = [row.started_at for row in sweeps[:-1]]
    tonight = not earlier or began >= earlier[-1]
    if not tonight and len(earlier) > 1 and began < earlier[-2]:
        return None, ()
    statuses = ledger.statuses(nights)
    newest = nights[-1] if tonight else None
    found = (
        (Subject(name, "step", name, name, 0), _series(name, of_it, nights, newest, statuses))
        for name, of_it in sorted(runs.items())
    )
    return nights[-1], tuple((subject, one) for subject, one in found if one is not None)


def _series(
    name: str,
    runs: Runs,
    nights: Sequence[str],
    newest: str | None,
    statuses: Mapping[tuple[str, str, Metric], Status],
) -> Series | None:
    """``None`` for a benchmark that was gone the night before already."""
    mine = runs.get(newest, ()) if newest else ()
    past = [night for night in nights if night in runs and night != newest]
    if not mine:
        last = nights[-2:] if newest else nights[-1:]
        if not past or past[-1] not in last:
            return None
        return Series(name=name, outcome="missing", reason=f"run on {past[-1]}, and not on the newest night")
    place = mine[0].place
    alike = [night for night in past if runs[night][0].place == place]
    made = Series(
        name=name,
        past=tuple(_night(night, runs[night], good=statuses.get((night, name, "step")) != "regressed")
                   for night in alike),
        newest=_night(newest or "", mine, good=True),
    )  # fmt: skip
    if alike or not past:
        return made
    other = runs[past[-1]][0].place
    names = dict.fromkeys((*place, *other))
    why = "; ".join(
        f"{one} {place.get(one, 'none')}, not {other.get(one, 'none')}"
        for one in names
        if place.get(one) != other.get(one)
    )
    return made.model_copy(update={"outcome": "incomparable", "reason": why})


def _night(night: str, runs: Sequence[IngestedRun], *, good: bool) -> NightOfTrials:
    return NightOfTrials(night=night, logs=tuple(math.log(median(run.seconds)) for run in runs), good=good)
