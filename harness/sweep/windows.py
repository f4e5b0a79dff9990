"""The windows of a round's trials, where they adapt to the spread of the trials of earlier rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from bench.core.case import Case
from bench.core.records import Trial
from reports.analysis.window_length import TrialSpread, spread_of, window_lengths


class KnownSpread(NamedTuple):
    """What a trial says of the spread of its cell: all that is kept of it while a sweep runs."""

    key: str
    """Of its case."""
    round: int
    spread: TrialSpread


def known_spreads(trials: Iterable[Trial]) -> list[KnownSpread]:
    """Those of the trials that have one (pure)."""
    return [
        KnownSpread(trial.case.key, trial.round, spread) for trial in trials if (spread := spread_of(trial)) is not None
    ]


def with_chosen_windows(cases: Sequence[Case], round_number: int, known: Iterable[KnownSpread]) -> list[Case]:
    """The cases of a round, each with its window (pure): a sweep that is resumed chooses the same ones.

    Args:
        cases: Those of the round.
        round_number: Its number.
        known: Of the trials of the sweep; of this round and later ones none counts.
    """
    # In the same order whether they were read or ran just now: sums depend on it.
    earlier = sorted((one for one in known if one.round < round_number), key=lambda one: (one.key, one.round))
    spreads = {key: [one.spread for one in own] for key, own in groupby(earlier, key=lambda one: one.key)}
    lengths = window_lengths(spreads, {case.key: case for case in cases if case.adapt_window})
    return [
        case.model_copy(update={"chosen_window_s": lengths[case.key]}) if case.key in lengths else case
        for case in cases
    ]
