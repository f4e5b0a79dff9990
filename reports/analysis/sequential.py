"""Comparisons of cells that are looked at after every round, and may end the sweep: how wide their intervals are.

A trial's log throughput is taken as the cell's level, an offset that all trials of its round share, and noise. Two
cells are compared over the rounds in which both have a number, so that the offset cancels. A cell of one to five trials
says little of its own noise: the noise of all cells is pooled, and that of each cell is drawn towards the pooled one
(:class:`TrialNoise`; Smyth 2004, doi:10.2202/1544-6115.1027).

The number of looks is known, since the repeats have a cap: there is one at each round that two cells share
(:mod:`reports.analysis.looks`; beside other rules in ``tests/perf/test_until_decided.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from reports.analysis.looks import Looks

Logs = Mapping[int, float]
"""Log throughputs of a cell by round."""
MIN_DEGREES = 3
"""Noise that fewer degrees of freedom say is not known."""
MIN_CLASS_DEGREES = 6
"""As many are needed to know that of one rank count alone."""
CELL_DEGREES = 4.0
"""How many degrees of freedom of a cell's own noise the pooled one is worth: cells differ in their noise."""
ASSUMED_NOISE, ASSUMED_DISTURBED, ASSUMED_DEGREES = 0.10, 0.30, 3.0
"""Where too little is known of the noise yet: ten percent, or thirty where something disturbed a trial, by as little
evidence as three degrees of freedom."""
FIT_PASSES = 30
NoiseSource = Literal["this sweep", "this sweep and an earlier one", "assumed"]


class PooledNoise(NamedTuple):
    """How trials of some cells scatter around the level of each, the offsets of rounds taken off."""

    variance: float
    """Of the log throughput of one trial."""
    degrees: float
    """The degrees of freedom of that."""
    source: NoiseSource
    own: Mapping[str, tuple[float, float]]
    """By cell, the sum of squared residuals and its degrees of freedom."""


class TrialNoise(NamedTuple):
    """The noise of trials: pooled over all cells, and over those of each rank count where that is known."""

    pooled: PooledNoise
    by_ranks: Mapping[int, PooledNoise]
    ranks: Mapping[str, int]
    """Of each cell."""

    def of(self, key: str) -> tuple[float, float]:
        """The variance of a trial of one cell, and its degrees of freedom."""
        pooled = self.by_ranks.get(self.ranks[key], self.pooled)
        prior = 1 / (1 / CELL_DEGREES + 1 / pooled.degrees)
        squares, degrees = pooled.own.get(key, (0.0, 0.0))
        return (prior * pooled.variance + squares) / (prior + degrees), prior + degrees

    @property
    def is_known(self) -> bool:
        """Whether it was measured."""
        return self.pooled.source != "assumed"


class Difference(NamedTuple):
    """The log ratio of two cells, with an interval that holds at all looks."""

    value: float
    low: float
    high: float
    rounds: int
    """Rounds in which both have a number."""
    variance: float
    """Of the difference within one round."""
    degrees: float
    """Of freedom, of the variance."""
    looks: Looks

    def shifted(self, by: float) -> Difference:
        """The same of another reference."""
        return self._replace(value=self.value + by, low=self.low + by, high=self.high + by)

    def reversed(self) -> Difference:
        """The second cell against the first."""
        return self._replace(value=-self.value, low=-self.high, high=-self.low)

    def chance_within(self, margin: float, rounds: int) -> float:
        """How likely its interval lies below ``margin``, or above ``-margin``, after ``rounds`` in all (pure).

        From what is known now: the estimate then is normal around the present one.
        """
        if rounds <= self.rounds:
            return float(self.high <= margin or self.low >= -margin)
        room = margin - self._quantile(rounds) * math.sqrt(self.variance / rounds)
        spread = math.sqrt(self.variance * (1 / self.rounds - 1 / rounds)) or math.ulp(1.0)
        return min(1.0, _normal((room - self.value) / spread) + _normal((room + self.value) / spread))

    def rounds_needed(self, margin: float) -> int:
        """After how many rounds in all its interval is likely to lie below ``margin`` or above ``-margin``."""
        room = margin + abs(self.value)
        return math.ceil(self.variance * (self._quantile(self.looks.most) / room) ** 2)

    def _quantile(self, rounds: int) -> float:
        """Of the interval after so many rounds, in standard errors."""
        return _student_quantile(round(self.degrees, 2), self.looks.level(rounds))


def trial_noise(
    cells: Mapping[str, Logs], ranks: Mapping[str, int], past: Mapping[str, float], *, disturbed: bool = False
) -> TrialNoise:
    """The noise of trials, from those of this sweep; from those of an earlier one too while these say too little.

    Args:
        cells: By cell, its log throughputs.
        ranks: The rank count of each cell: ranks that share a machine disturb each other.
        past: By cell, its log throughput in an earlier sweep on the same machine. It counts as one more round: what
            has changed since makes the noise larger, not smaller.
        disturbed: Whether something disturbed a trial, such as another process.
    """
    of_count: dict[int, dict[str, Logs]] = {}
    for key, logs in cells.items():
        of_count.setdefault(ranks[key], {})[key] = logs
    known = {
        count: noise
        for count, some in of_count.items()
        if (noise := _measured(some, past, MIN_CLASS_DEGREES)) is not None and noise.degrees >= MIN_CLASS_DEGREES
    }
    pooled = _measured(cells, past, MIN_DEGREES)
    if pooled is None or pooled.degrees < MIN_DEGREES:
        pooled = _assumed(pooled, ASSUMED_DISTURBED if disturbed else ASSUMED_NOISE)
    return TrialNoise(pooled, known, ranks)


def _measured(cells: Mapping[str, Logs], past: Mapping[str, float], wanted: int) -> PooledNoise | None:
    """What these trials say, and an earlier sweep too where these have fewer than the wanted degrees of freedom."""
    noise = _fit(cells, "this sweep")
    if noise is None or noise.degrees < wanted:
        both = {key: {-1: past[key], **logs} if key in past else logs for key, logs in cells.items()}
        noise = _fit(both, "this sweep and an earlier one")
    return noise


def _assumed(few: PooledNoise | None, assumed: float) -> PooledNoise:
    """An assumption, and the few degrees of freedom that were measured: together, since these may show far more."""
    squares, degrees = (few.variance * few.degrees, few.degrees) if few is not None else (0.0, 0.0)
    total = ASSUMED_DEGREES + degrees
    return PooledNoise((ASSUMED_DEGREES * assumed**2 + squares) / total, total, "assumed", {})


def _fit(cells: Mapping[str, Logs], source: NoiseSource) -> PooledNoise | None:
    """The residuals of a level for each cell and an offset for each round; ``None`` where there are none."""
    repeated = {key: logs for key, logs in cells.items() if len(logs) > 1}
    rounds = {number for logs in repeated.values() for number in logs}
    count = sum(map(len, repeated.values()))
    degrees = count - len(repeated) - (len(rounds) - 1)
    if not repeated or degrees < 1:
        return None
    members = {number: [key for key, logs in repeated.items() if number in logs] for number in rounds}
    level = {key: math.fsum(logs.values()) / len(logs) for key, logs in repeated.items()}
    offset = dict.fromkeys(rounds, 0.0)
    for _ in range(FIT_PASSES):
        for number, keys in members.items():
            offset[number] = math.fsum(repeated[key][number] - level[key] for key in keys) / len(keys)
        for key, logs in repeated.items():
            level[key] = math.fsum(log - offset[number] for number, log in logs.items()) / len(logs)
    squares = {
        key: math.fsum((log - level[key] - offset[number]) ** 2 for number, log in logs.items())
        for key, logs in repeated.items()
    }
    share = degrees / (count - len(repeated))
    own = {key: (squares[key], share * (len(logs) - 1)) for key, logs in repeated.items()}
    return PooledNoise(math.fsum(squares.values()) / degrees, float(degrees), source, own)


def difference(
    first: str, second: str, cells: Mapping[str, Logs], noise: TrialNoise, looks: Looks
) -> Difference | None:
    """Log throughput of the first cell less that of the second; ``None`` where they share no round.

    Args:
        first: The key of a cell.
        second: That of another.
        cells: By cell, its log throughputs.
        noise: Of the trials.
        looks: One for each round that two cells can share.
    """
    shared = cells[first].keys() & cells[second].keys()
    if not shared:
        return None
    value = math.fsum(cells[first][number] - cells[second][number] for number in shared) / len(shared)
    (variance_1, degrees_1), (variance_2, degrees_2) = noise.of(first), noise.of(second)
    variance = variance_1 + variance_2
    if variance == 0:
        return Difference(value, value, value, len(shared), 0.0, math.inf, looks)
    degrees = variance**2 / (variance_1**2 / degrees_1 + variance_2**2 / degrees_2)
    half = _student_quantile(round(degrees, 2), looks.level(len(shared))) * math.sqrt(variance / len(shared))
    return Difference(value, value - half, value + half, len(shared), variance, degrees, looks)


@lru_cache(maxsize=4096)
def _student_quantile(degrees: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(-stdtrit(degrees, level))


def _normal(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))
