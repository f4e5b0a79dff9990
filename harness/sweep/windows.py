"""The windows of a round's trials, where they adapt to the spread of the trials of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.case import Case
from bench.core.records import Trial
from reports.analysis.window_length import spread_of, window_lengths


def with_chosen_windows(cases: Sequence[Case], round_number: int, trials: Sequence[Trial]) -> list[Case]:
    """The cases of a round, each with its window (pure): a sweep that is resumed chooses the same ones.

    Args:
        cases: Those of the round.
        round_number: Its number.
        trials: Those of the sweep; of this round and later ones none counts.
    """
    known = [
        (trial.case.key, spread) for trial in trials if trial.round < round_number and (spread := spread_of(trial))
    ]
    spreads = {key: [spread for of, spread in known if of == key] for key in dict.fromkeys(key for key, _ in known)}
    lengths = window_lengths(spreads, {case.key: case for case in cases if case.adapt_window})
    return [
        case.model_copy(update={"chosen_window_s": lengths[case.key]}) if case.key in lengths else case
        for case in cases
    ]
