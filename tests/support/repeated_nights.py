"""Nights before one that was measured: the same trials, each a little off."""

from __future__ import annotations

import random
from pathlib import Path

from harness.store.opening import open_store


def repeat_night(store_path: Path, sweep: str | None, nights: int, spread: float) -> str:
    """Put as many nights of a sweep's trials before it.

    Args:
        store_path: The store that holds it.
        sweep: Its id; ``None``: the only one that there is.
        nights: How many.
        spread: The standard deviation of a trial's step time, as a share of it.

    Returns:
        The id of the sweep.
    """
    store, noise = open_store(str(store_path), create=True), random.Random(0)
    if sweep is None:
        (sweep,) = store.sweep_ids()
    info, trials = store.sweep(sweep), store.trials(sweep)
    for number in range(nights):
        name = f"20260101-00000{number}-abcd"
        store.begin_sweep(info.model_copy(update={"id": name, "started_at": f"2026-01-01T00:00:0{number}+00:00"}))
        for trial in trials:
            factor = 1 + noise.gauss(0, spread)
            ranks = tuple(
                rank.model_copy(update={"step_s": tuple(step_s * factor for step_s in rank.step_s)})
                for rank in trial.ranks
            )
            store.add_trial(name, trial.model_copy(update={"ranks": ranks}))
        store.finish_sweep(name, info.started_at)
    store.close()
    return sweep
