"""Error rates of other tools' rules and of ours on the same synthetic histories. No rate is asserted.

The table at the end is Markdown, one for each noise model of :mod:`reports.regression.synthetic_histories`;
docs/verdicts.md shows one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from reports.regression.calibration import (
    DETECTION_DELAYS,
    HISTORY_NIGHTS,
    SUITE_SIZE,
    Proportion,
    calibrate,
    proportion,
    synthetic_suite,
)
from reports.regression.paired_test import confirm_all
from reports.regression.robust import Array
from reports.regression.rule import RULE
from reports.regression.screen import SeriesArrays, screen
from reports.regression.synthetic_histories import NOISE_MODELS, NoiseModel, synthetic_samples_s
from tests.perf.peers import PEERS, NotInstalled, Peer

SMALL, LARGE = 0.05, 0.10
OURS_CHECKS, OURS_POWERED = 20_000, 500
FOUND, STEP, MOST = 0.95, 0.005, 0.64
"""The smallest slowdown found is looked for in half per cents."""
HEADER = (
    "rule",
    "unchanged checks",
    "false alarms a check",
    "95 % interval",
    "finds 5 % on its first night",
    "or the next",
    "finds 10 % on its first night",
    "finds 95 % from",
    "extra trials",
)


@dataclass(frozen=True)
class Row:
    """Error rates of one rule under one noise model."""

    rule: str
    alarms: Proportion
    small: Proportion
    small_later: Proportion
    large: Proportion
    least: float | None
    extra_trials: float = 0.0

    def cells(self) -> tuple[str, ...]:
        seen = self.alarms
        return (
            self.rule,
            f"{seen.of:,}",
            f"{percent(seen.value)} ({seen.count})",
            f"{percent(seen.low)} – {percent(seen.high)}",
            f"{percent(self.small.value, 3)} of {self.small.of:,}",
            percent(self.small_later.value, 3),
            percent(self.large.value, 3),
            f"over {percent(MOST)}" if self.least is None else percent(self.least, 3),
            percent(self.extra_trials),
        )


def percent(share_of_one: float, digits: int = 2) -> str:
    """``digits``: significant ones."""
    return f"{100 * share_of_one:.{digits}g} %"


@pytest.fixture(scope="module")
def rows(tell_whole):
    found: dict[str, list[Row]] = {name: [] for name in NOISE_MODELS}
    yield found
    for name, told in found.items():
        tell_whole(f"Noise model {name}, {HISTORY_NIGHTS} nights before the one that is judged:\n")
        for cells in (HEADER, ["---"] * len(HEADER), *(row.cells() for row in told)):
            tell_whole(f"| {' | '.join(cells)} |")
        tell_whole("")


@pytest.fixture(params=NOISE_MODELS.values(), ids=lambda model: model.name)
def model(request) -> NoiseModel:
    return request.param


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer(peer, model, rows):
    try:
        rows[model.name].append(measured(peer, model))
    except NotInstalled as why:
        pytest.skip(str(why))


def test_ours(model, rows):
    *_, ours = calibrate(
        lambda series, seed: synthetic_suite(model, series, seed), model.name, OURS_CHECKS, (SMALL, LARGE), RULE
    )
    found = {(power.slowdown_pct, power.nights_more): power.found for power in ours.powers}
    rows[model.name].append(
        Row(
            rule="ours",
            alarms=ours.false_alarms,
            small=found[100 * SMALL, 0],
            small_later=found[100 * SMALL, 1],
            large=found[100 * LARGE, 0],
            least=least(lambda slowdown: ours_found(model, slowdown)),
            extra_trials=ours.extra_trials,
        )
    )


def measured(peer: Peer, model: NoiseModel) -> Row:
    seconds = history(model.name)

    def found(checks: int, slowdown: float = 0.0, more: int = 0) -> Array:
        judged = seconds[:checks, : HISTORY_NIGHTS + 1 + more].copy()
        judged[:, HISTORY_NIGHTS:] *= 1 + slowdown
        answers = peer.alarms(judged)
        assert answers.shape == (checks,)
        assert answers.dtype == bool
        return answers

    small = found(peer.powered, SMALL)
    later = small | found(peer.powered, SMALL, more=1)
    return Row(
        rule=peer.name,
        alarms=proportion(int(found(peer.checks).sum()), peer.checks),
        small=proportion(int(small.sum()), peer.powered),
        small_later=proportion(int(later.sum()), peer.powered),
        large=proportion(int(found(peer.powered, LARGE).sum()), peer.powered),
        least=least(lambda slowdown: float(found(peer.powered, slowdown).mean())),
    )


@cache
def history(name: str) -> Array:
    """The nights that :func:`synthetic_suite` makes, sample by sample, up to one after the first that is judged."""
    suites = max(peer.checks for peer in PEERS) // SUITE_SIZE
    nights = HISTORY_NIGHTS + 1 + max(DETECTION_DELAYS)
    return np.concatenate(
        [
            synthetic_samples_s(NOISE_MODELS[name], SUITE_SIZE, nights, seed)[:, : HISTORY_NIGHTS + 2]
            for seed in range(suites)
        ]
    )


def ours_found(model: NoiseModel, slowdown: float) -> float:
    """The share of slowed series that are called slower on their first night."""
    suites = OURS_POWERED // SUITE_SIZE
    found = 0
    for seed in range(suites):
        suite = synthetic_suite(model, SUITE_SIZE, seed)
        trials = suite.trials[:, : HISTORY_NIGHTS + 1].copy()
        trials[:, HISTORY_NIGHTS] += np.log1p(slowdown)
        screened = screen(SeriesArrays(trials, np.ones(trials.shape[:2], bool), np.zeros(trials.shape[:2], int)), RULE)
        suspects = screened.slower_z > screened.threshold
        pairs = suite.pairs(RULE.looks[-1], slowdown)[suspects]
        decisions = confirm_all(pairs, screened.pair_scale[suspects], RULE, screened.slower_z[suspects])
        found += sum(decision.answer == "slower" for decision in decisions)
    return found / (suites * SUITE_SIZE)


def least(found: Callable[[float], float]) -> float | None:
    """The smallest slowdown of which :data:`FOUND` are found; ``None`` where that is above :data:`MOST`."""
    missed, enough = 0, round(MOST / STEP)
    if found(MOST) < FOUND:
        return None
    while enough - missed > 1:
        middle = (missed + enough) // 2
        missed, enough = (missed, middle) if found(middle * STEP) >= FOUND else (middle, enough)
    return enough * STEP
