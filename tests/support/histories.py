"""Made-up series for tests of verdicts."""

from __future__ import annotations

import math

import numpy as np

from reports.regression.synthetic_histories import NOISE_MODELS, synthetic_histories
from reports.regression.values import MetricSeries, NightTrials


def nights_of(trials, first=0, **about):
    """Nights from an array of shape (nights, trials)."""
    return tuple(
        NightTrials(night=f"night-{first + number:02d}", logs=tuple(map(float, logs)), **about)
        for number, logs in enumerate(trials)
    )


def unchanged(count, nights=30, model="tuned", seed=0):
    """``count`` series with ``nights`` nights before the newest, and what draws their pairs."""
    found = synthetic_histories(NOISE_MODELS[model], count, nights + 1, seed)
    series = tuple(
        MetricSeries(name=f"series {number}", past=nights_of(trials[:-1]), newest=nights_of(trials[-1:], nights)[0])
        for number, trials in enumerate(found.trials)
    )
    return series, found


def slowed(series, by):
    """The newest night takes longer by a factor whose logarithm is ``by``."""
    newest = series.newest
    return series.model_copy(
        update={"newest": newest.model_copy(update={"logs": tuple(log + by for log in newest.logs)})}
    )


def history(levels_s, seed=0, trials=5):
    """A series with a night for each of these levels, the newest last: 0.5 % noise by night, 1 % by trial."""
    noise = np.random.default_rng(seed)
    nights = nights_of(
        math.log(level_s) + noise.normal(0, 0.005) + noise.normal(0, 0.01, trials) for level_s in levels_s
    )
    return MetricSeries(name="one", past=nights[:-1], newest=nights[-1])


def lost_improvements(lasted, seeds=5, size=0.3):
    """Histories of twenty nights, an improvement for as many nights as ``lasted``, and tonight without it."""
    return [history((1.0,) * 20 + (1 - size,) * lasted + (1.0,), seed) for seed in range(seeds)]
