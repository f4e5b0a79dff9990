"""By how much the energy of a GPU may be wrong because its counter does not sample the power all the time.

On an H200 a load that was busy for half of each 20 ms read from 422 to 602 W, by when its periods began, although it
was the same load; with periods of 100 and 200 ms readings differed from their middle by 7 % and 5 % at most. The
simplest counter that reads like that takes one sample every 20 ms, a mean over 16 ms, as the power of all 20: of that
load it gives the eight recorded readings within 21 W, root mean square. Power that rises and falls a whole number of
times in 20 ms then reads as constant power, too high or too low: an alias.

The share of such an alias that a window sees follows from the times T at which its steps began: |mean of
exp(2πi·m·T ÷ 20 ms)| for m periods in 20 ms. It is 1 where all steps begin at the same phase of the counter, and near 0
where their lengths vary, or differ so much from the counter's interval that the window holds all phases. Of a step of
length P that is idle for half of its time, and draws twice its mean power in the other half, the part of the power with
m periods in 20 ms is 4 ÷ (π·m·P ÷ 20 ms) of the mean (the Fourier series of a square wave), and a mean over 16 ms
passes sin(x) ÷ x of it, x = π·m·16 ÷ 20.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from itertools import accumulate, repeat
from typing import NamedTuple

from reports.analysis.stats import Estimate, widened

ALIASED = 0.05
"""An error from which on a cell is flagged."""
RAYLEIGH = -math.log(0.01)
"""Of n random phases the squared concentration, times n, is smaller in 99 of 100 cases (Rayleigh's test)."""


class _Block(NamedTuple):
    steps: int
    step_s: float


class CounterSampling(NamedTuple):
    """When a counter of energy samples the power: once in each ``period_s``, as a mean over ``seen_s``, in seconds."""

    period_s: float
    seen_s: float


GPU_SAMPLING = CounterSampling(period_s=0.020, seen_s=0.016)
"""Fitted to the readings of one H200. Others may have another: the power readings of A100 and H100 are means over 25 ms
in each 100 (Yang, Adámek, Armour 2023, arXiv:2312.02741)."""


def alias_error(
    step_s: Sequence[float], counts: Sequence[int] | None = None, sampling: CounterSampling = GPU_SAMPLING
) -> float:
    """The largest error by an alias, as a share of the energy, of steps that are idle for half of their time.

    Args:
        step_s: The durations of the steps of a window in their order, or the mean durations of blocks of them, in
            seconds.
        counts: How many steps each block has, which are taken to be equally long; ``None``: one.
        sampling: When the counter samples the power.
    """
    if not step_s:
        return 0.0
    blocks = list(map(_Block, counts or repeat(1, len(step_s)), step_s))
    mean_s = math.fsum(block.steps * block.step_s for block in blocks) / sum(block.steps for block in blocks)
    if mean_s < sampling.period_s / _most_periods(sampling):
        return 0.0
    most = 0.0
    for periods in range(1, _most_periods(sampling) + 1):
        passed = _passed(periods, mean_s, sampling)
        if passed > most:
            most = max(most, passed * _concentration(blocks, sampling.period_s / periods))
    return most


def widened_for(value: Estimate, alias: float) -> Estimate:
    """An energy over trials, whose interval allows for an alias: of a wave at a random phase the standard deviation is
    its amplitude ÷ √2. Trials can all lie to one side of it: without an allowance the interval over 3 trials holds the
    mean over all phases in 83 % of cells."""
    return widened(value, alias / math.sqrt(2)) if alias >= ALIASED else value


def _most_periods(sampling: CounterSampling) -> int:
    """From where on no alias is as large as :data:`ALIASED`: a mean over ``seen_s`` passes 1 ÷ x at most."""
    return math.floor(4 / (math.pi**2 * ALIASED) * sampling.period_s / sampling.seen_s)


def _passed(periods: int, step_s: float, sampling: CounterSampling) -> float:
    """What a mean passes of the power with so many periods in an interval of the counter, relative to all power."""
    in_a_step = max(1.0, periods * step_s / sampling.period_s)
    x = math.pi * periods * sampling.seen_s / sampling.period_s
    return 4 / (math.pi * in_a_step) * abs(math.sin(x) / x)


def _concentration(blocks: Sequence[_Block], period_s: float) -> float:
    """1 where all steps begin at the same phase of the period, 0 where they begin at all phases alike, or at random."""
    began_s = accumulate((steps * step_s for steps, step_s in blocks), initial=0.0)
    total = sum(
        cmath.exp(2j * math.pi * (at_s % period_s) / period_s) * _sum_of_block(block, period_s)
        for at_s, block in zip(began_s, blocks, strict=False)
    )
    count = sum(steps for steps, _ in blocks)
    concentration = abs(total) / count
    return concentration if count * concentration**2 > RAYLEIGH else 0.0


def _sum_of_block(block: _Block, period_s: float) -> complex:
    """The sum of exp(2πi·k·T ÷ period) over its steps k = 0, 1, …, of length T: a geometric series, since a block may
    have a million steps."""
    x = math.pi * math.remainder(block.step_s / period_s, 1)
    if math.sin(x) == 0:
        return block.steps
    return cmath.exp(1j * (block.steps - 1) * x) * math.sin(block.steps * x) / math.sin(x)
