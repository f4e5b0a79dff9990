"""Synthetic nightly histories with known changes, for the calibration of the rule.

A noise model describes how a machine's times vary. The rule's parameters were chosen on ``tuned``; ``foreign`` differs
from it in every part. All randomness comes from the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from bench.core.frozen_model import FrozenModel
from reports.regression.robust import Array

Generator = np.random.Generator


class NoiseModel(FrozenModel):
    """Noise of one kind of machine, relative to the value. From ranges each series draws uniformly."""

    name: Literal["tuned", "foreign"]
    runs: int = 5
    samples: int = 20
    run: tuple[float, float]
    """Standard deviation of the offset common to a run."""
    sample: tuple[float, float]
    """Standard deviation of samples within a run."""
    day: tuple[float, float]
    """Standard deviation of the offset common to a night."""
    slope: float
    """Standard deviation, over the series, of a steady drift per night."""
    walk: float
    """Standard deviation of a random walk from night to night."""
    outlier_run_share: float
    """Share of runs slowed by an exponential variate with mean :attr:`outlier_run_size`."""
    outlier_run_size: float
    outlier_sample_share: float
    """Share of samples that took up to twice as long."""


NOISE_MODELS: Mapping[str, NoiseModel] = MappingProxyType(
    {
        "tuned": NoiseModel(
            name="tuned",
            run=(0.01, 0.03),
            sample=(0.01, 0.03),
            day=(0.005, 0.015),
            slope=0.0005,
            walk=0.001,
            outlier_run_share=0.03,
            outlier_run_size=0.1,
            outlier_sample_share=0.03,
        ),
        "foreign": NoiseModel(
            name="foreign",
            run=(0.01, 0.03),
            sample=(0.005, 0.06),
            day=(0.002, 0.012),
            slope=0.0003,
            walk=0.0015,
            outlier_run_share=0.05,
            outlier_run_size=0.06,
            outlier_sample_share=0.08,
        ),
    }
)


@dataclass(frozen=True)
class SyntheticHistories:
    """Histories without a change.

    ``trials``: ln of run medians, shape (series, nights, runs). ``run``, ``sample``: noise of each series, from which
    its pairs are drawn.
    """

    model: NoiseModel
    trials: Array
    run: Array
    sample: Array
    offsets: Generator

    def pairs(self, count: int, slowdown: float = 0.0) -> Array:
        """ln(head ÷ base) of fresh interleaved runs; ``slowdown`` 0.05 makes head take 5 % longer.

        Shape (series, count).
        """
        shape = (len(self.run), count)
        head = _runs(self.offsets, self.model, shape, self.run, self.sample)
        base = _runs(self.offsets, self.model, shape, self.run, self.sample)
        return np.asarray(np.log1p(slowdown) + head - base)


def synthetic_histories(model: NoiseModel, series: int, nights: int, seed: int) -> SyntheticHistories:
    """``nights`` nights of ``series`` unchanged series."""
    all_samples, run, sample, rng = _all_samples(model, series, nights, seed)
    return SyntheticHistories(model, np.median(all_samples, axis=-1), run, sample, rng)


def synthetic_samples_s(model: NoiseModel, series: int, nights: int, seed: int) -> Array:
    """The same histories, sample by sample: seconds about 1, shape (series, nights, runs, samples)."""
    return np.asarray(np.exp(_all_samples(model, series, nights, seed)[0]))


def _all_samples(model: NoiseModel, series: int, nights: int, seed: int) -> tuple[Array, Array, Array, Generator]:
    rng = np.random.default_rng(seed)
    run, sample, day = (rng.uniform(*span, series) for span in (model.run, model.sample, model.day))
    level = rng.normal(0, model.slope, series)[:, None] * np.arange(nights)
    level = level + np.cumsum(rng.normal(0, model.walk, (series, nights)), axis=1)
    level = level + _night_offsets(rng, model, day, nights)
    all_samples = _samples(rng, model, (series, nights, model.runs), run, sample)
    return level[..., None, None] + all_samples, run, sample, rng


def _night_offsets(rng: Generator, model: NoiseModel, day: Array, nights: int) -> Array:
    """The offset of each night. In ``foreign`` half of it carries over, weekends differ, and some nights are bad."""
    fresh: Array = rng.normal(0, 1, (len(day), nights)) * day[:, None]
    if model.name == "tuned":
        return fresh
    for night in range(1, nights):
        fresh[:, night] += fresh[:, night - 1] / 2
    weekend = np.isin(np.arange(nights) % 7, (5, 6))
    bad = (rng.random(fresh.shape) < 0.05) * rng.exponential(0.02, fresh.shape)
    return np.asarray(fresh + bad + weekend * rng.normal(0, 0.006, len(day))[:, None])


def _runs(rng: Generator, model: NoiseModel, shape: tuple[int, ...], run: Array, sample: Array) -> Array:
    """ln of the median of each run's samples."""
    return np.asarray(np.median(_samples(rng, model, shape, run, sample), axis=-1))


def _samples(rng: Generator, model: NoiseModel, shape: tuple[int, ...], run: Array, sample: Array) -> Array:
    """ln of every sample; shape (*shape, samples)."""
    per_series = (..., *(None,) * (len(shape) - 1))
    if model.name == "tuned":
        offsets = rng.normal(0, 1, shape)
        noise = rng.normal(0, 1, (*shape, model.samples))
    else:
        # Three modes of a run (memory, clocks) with heavy tails, and skewed samples.
        modes = rng.choice([-0.8, 0.2, 1.5], shape, p=[0.3, 0.5, 0.2])
        offsets = 0.6 * modes + 0.5 * rng.standard_t(3, shape)
        noise = rng.gamma(2.0, 1.0, (*shape, model.samples)) - 2.0
    run_offsets = offsets * run[per_series]
    run_offsets = run_offsets + (rng.random(shape) < model.outlier_run_share) * rng.exponential(
        model.outlier_run_size, shape
    )
    scale = sample[(*per_series, None)]
    samples = noise * scale
    outliers = rng.random((*shape, model.samples)) < model.outlier_sample_share
    samples = samples + np.where(outliers, np.log1p(rng.random((*shape, model.samples))), 0.0)
    return np.asarray(run_offsets[..., None] + samples)
