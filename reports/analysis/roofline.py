"""Model FLOPs utilization (MFU) and the roofline of a cell, against a peak measured on the same devices.

With F and Q the FLOPs and the bytes of one step on all ranks, T the time of a step (the mean over the measured window,
on its slowest rank), P and B the ranks' peak FLOP/s, in the type in which the step multiplies, and copy bandwidth added
up:

    MFU                  = F ÷ (T × P)
    HFU                  = (F + FLOPs of activations that the backward pass computes again) ÷ (T × P)
    MFU of own time      = F ÷ Σ(own time of a rank × its peak): neither waiting nor exposed communication is in it
    arithmetic intensity = F ÷ Q
    attainable           = min(P, intensity × B)
    reached share        = F ÷ T ÷ attainable

MFU and hardware FLOPs utilization (HFU): Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B. Roofline:
Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785. Q assumes no cache, so the
intensity is a lower bound, and where caches serve a step the reached share may exceed 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bench.core.frozen_model import FrozenModel
from bench.core.records import ROOFLINE, RankRecord, Trial
from bench.core.step_measures import DevicePeak, PrecisionPeak
from reports.analysis.conditions import missing_reason
from reports.analysis.stats import Estimate, estimate
from reports.analysis.step_times import StepSplit

NO_MODEL = "no model is trained"
PROGRAM = "the work of a step is counted of this project's own models and of plugins, not of a program"
EMULATED_COMPUTE = "the compute is a wait"
NOT_MEASURED = "not measured: only a cell's first trial measures the work of a step and the device's peak"
NOTHING_COUNTED = "no operation of the step has a known number of FLOPs and of bytes"
DISTURBED = "the steps reached more FLOP/s than the device's measured peak, which was disturbed: measure again"


class Roofline(FrozenModel):
    """The roofline of all ranks of a cell: work and peak from one trial, times from every successful trial."""

    flops: float
    """In a step."""
    bytes_moved: float
    """In a step; an upper bound."""
    intensity: float
    """FLOPs per byte."""
    peak_flop_s: float
    peak_bytes_s: float
    attainable_flop_s: float
    bound: Literal["compute", "memory"]
    how: str
    """How the peak was measured."""
    dtype: str = "float32"
    """The type in which the peak was measured, and in which the step multiplies."""
    clock_hz: float | None = None
    """The clock of the slowest rank's GPU under the load of the peak, in hertz; ``None`` on CPUs."""
    power_cap_w: float | None = None
    """The lowest power limit of the ranks' GPUs at that time, in watts."""
    limits_reason: str | None = None
    """Why the clock or the limit is unknown."""
    precisions: tuple[PrecisionPeak, ...] = ()
    """The peaks of the devices in other types, all ranks together; of GPUs only."""
    mfu: Estimate
    hfu: Estimate
    """The MFU, where no activation is computed again."""
    own_mfu: Estimate | None
    """``None`` where steps were not decomposed."""
    reached_flop_s: Estimate
    reached_share: Estimate
    """Of the attainable FLOP/s."""


def roofline_of(trials: Sequence[Trial], splits: Sequence[StepSplit | None]) -> tuple[Roofline | None, str | None]:
    """The roofline of a cell, or ``None`` and the reason.

    Args:
        trials: the cell's successful trials, at least one.
        splits: the parts of a step of each of them, in the same order; ``None`` where steps were not decomposed.
    """
    reason = _missing_reason(trials)
    if reason:
        return None, reason
    roofline = _roofline(trials, splits, _measured(trials))
    return (None, DISTURBED) if roofline.hfu.value > 1 else (roofline, None)


def _measured(trials: Sequence[Trial]) -> tuple[RankRecord, ...]:
    """The ranks of the trial that measured work and peak; empty where none did."""
    return next((trial.ranks for trial in trials if all(rank.step_work for rank in trial.ranks)), ())


def _missing_reason(trials: Sequence[Trial]) -> str | None:
    if (kind := trials[0].ranks[0].kind) != "training":
        return PROGRAM if kind == "program" else NO_MODEL
    if "emulated_compute" in trials[0].case.flags:
        return EMULATED_COMPUTE
    ranks = _measured(trials)
    if not ranks:
        return missing_reason([rank for trial in trials for rank in trial.ranks], ROOFLINE) or NOT_MEASURED
    if without := [rank for rank in ranks if rank.peak is None]:
        return f"rank {without[0].rank}: {without[0].peak_reason}"
    works = [rank.step_work for rank in ranks if rank.step_work is not None]
    if not all(work.flops and work.bytes_moved for work in works):
        return NOTHING_COUNTED
    peaks = {rank.peak.dtype for rank in ranks if rank.peak is not None}
    # Older records do not say which types are those of products.
    others = sorted({name for work in works for name in work.product_dtypes or work.dtypes} - peaks)
    if others:
        return f"the step computes in {', '.join(others)}, the measured peak is of {' and '.join(sorted(peaks))}"
    return None if len(peaks) == 1 else f"the ranks measured peaks of {' and '.join(sorted(peaks))}"


def _roofline(trials: Sequence[Trial], splits: Sequence[StepSplit | None], ranks: Sequence[RankRecord]) -> Roofline:
    works = [rank.step_work for rank in ranks if rank.step_work is not None]
    peaks = [rank.peak for rank in ranks if rank.peak is not None]
    flops, moved = sum(work.flops for work in works), sum(work.bytes_moved for work in works)
    flop_s, bytes_s = sum(peak.flop_s for peak in peaks), sum(peak.bytes_s for peak in peaks)
    intensity = flops / moved
    attainable = min(flop_s, intensity * bytes_s)
    reached = [flops / max(rank.mean_step_s for rank in trial.ranks) for trial in trials]
    executed = sum(work.flops if work.executed_flops is None else work.executed_flops for work in works)
    own = [split.own_s for split in splits if split is not None]
    at_peak = [sum(s * peak.flop_s for s, peak in zip(own_s, peaks, strict=True)) for own_s in own]
    return Roofline(
        flops=flops,
        bytes_moved=moved,
        intensity=intensity,
        peak_flop_s=flop_s,
        peak_bytes_s=bytes_s,
        attainable_flop_s=attainable,
        bound="compute" if attainable == flop_s else "memory",
        how=peaks[0].how,
        dtype=peaks[0].dtype,
        clock_hz=_lowest([peak.clock_hz for peak in peaks]),
        power_cap_w=_lowest([peak.power_cap_w for peak in peaks]),
        limits_reason=next((peak.limits_reason for peak in peaks if peak.limits_reason), None),
        precisions=tuple(_all_ranks(name, peaks) for name in [found.dtype for found in peaks[0].precisions]),
        hfu=estimate([executed / flops * rate / flop_s for rate in reached], "1"),
        mfu=estimate([rate / flop_s for rate in reached], "1"),
        own_mfu=estimate([flops / own_peak_flops for own_peak_flops in at_peak], "1") if at_peak else None,
        reached_flop_s=estimate(reached, "FLOP/s"),
        reached_share=estimate([rate / attainable for rate in reached], "1"),
    )


def _lowest(values: Sequence[float | None]) -> float | None:
    """Unknown where one of them is."""
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _all_ranks(dtype: str, peaks: Sequence[DevicePeak]) -> PrecisionPeak:
    """The peak of all ranks in a type, or the first reason why one of them has none."""
    found = [precision for peak in peaks for precision in peak.precisions if precision.dtype == dtype]
    rates = [precision.flop_s for precision in found if precision.flop_s is not None]
    if len(rates) == len(peaks):
        return PrecisionPeak(dtype=dtype, flop_s=sum(rates))
    reason = next((precision.reason for precision in found if precision.reason), "not measured on every rank")
    return PrecisionPeak(dtype=dtype, flop_s=None, reason=reason)
