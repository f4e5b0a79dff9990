"""How far the numbers of an answer can be trusted: a word, and the one reason that weighs most.

The reasons are what the cells were already flagged with (:mod:`reports.analysis.flags`,
:mod:`reports.analysis.conditions`), the number of trials, and the width of the intervals. A flag of another's plugin
that is not listed here weighs nothing; it is shown with the cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal

from bench.core.frozen_model import FrozenModel
from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.conditions import DISTURBANCES
from reports.analysis.flags import MIN_TRIALS, NO_SCALING_CLAIM, claim_problem, remedy
from reports.analysis.stats import half_width

TrustWord = Literal["high", "limited", "low", "none"]
MIN_INTERVAL_TRIALS = 2
MIN_SHOWN_WIDTH = 0.005
"""Nobody needs to know how far below it an interval is."""
LIMITED_HALF_WIDTH, LOW_HALF_WIDTH = 0.1, 0.3
"""Half widths of an interval, as shares of the value, from which on an answer is trusted less."""
LOW_TRUST: Mapping[str, str] = {
    "injected": "a fault was injected",
    "never_settled": "step times had not settled",
    "shared_cores": "ranks of several nodes ran on the same cores of one machine",
    "ranks_apart": "ranks trained each by itself",
    "other_scaling": "the work does not grow with the ranks as the kind of scaling says",
    "swapping": "memory was swapped",
    "shared_machine": "another sweep ran on the same cores",
    "replayed": "readings come from a recording",
}
"""Flags that make an answer's numbers those of something else, each in words."""
LIMITED_TRUST: Mapping[str, str] = {
    "host_load": "noisy host: other processes used its cores",
    "cpu_steal": "noisy host: the hypervisor took CPU time",
    "throttled": "the CPU quota was used up",
    "cpu_clock_moved": "noisy host: the clock of its cores changed",
    "gpu_clock_moved": "the clock of a GPU changed",
    "imprecise": "intervals are wider than requested",
    "measured_later": "cells that had to be compiled first were measured after the others",
    "unproven": "the same-work check has no verdict",
    "loose_tolerance": "same work is judged with a looser tolerance than float32's",
    "not_sampled": "part of the window was not sampled",
    "slow_links": "the links carried less than their rate",
    "own_threads": "the program chose its number of threads itself",
    "noisy_log": "a process printed more than 16 MiB within the measured steps",
}
"""Flags that may have moved the numbers a little."""
MORE_TRIALS = "more trials (--repeats, or --precision 5%), or less other load on the machine"


class Trust(FrozenModel):
    """``high``: nothing speaks against the numbers; ``limited``: something may have moved them; ``low``: they are
    hardly a measurement of the case; ``none``: there is no number."""

    word: TrustWord
    reason: str
    """The reason that weighs most; of high trust, what it rests on."""
    remedy: str = ""
    """What would make it higher; empty where nothing has to."""


def trust_in(cells: Sequence[Cell], decided: Trust | None = None) -> Trust:
    """The trust in an answer that is drawn from these cells, all of them with a number.

    Args:
        cells: The fastest cells and those of the curve that the answer speaks of.
        decided: What a sequential rule says of the answer, in place of the numbers of trials and the intervals of each
            cell alone; ``None``: the number of trials was fixed.
    """
    if not cells:
        return Trust(word="none", reason="no cell has a number")
    if decided is None:
        return next(_problems(cells), None) or Trust(word="high", reason=_grounds(cells))
    return next(chain(_foul(cells), _flagged("limited", LIMITED_TRUST, cells)), decided)


def _foul(cells: Sequence[Cell]) -> Iterator[Trust]:
    """What makes the numbers those of something else."""
    shared = [cell for cell in cells if claim_problem(cell.flags) is not None]
    if shared:
        flag = claim_problem(shared[0].flags) or ""
        yield Trust(word="low", reason=f"ranks {NO_SCALING_CLAIM[flag]}{_where(shared, cells)}", remedy=remedy(flag))
    yield from _flagged("low", LOW_TRUST, cells)


def _problems(cells: Sequence[Cell]) -> Iterator[Trust]:
    """What speaks against the numbers, the weightiest first."""
    yield from _foul(cells)
    single = [cell for cell in cells if cell.trials < MIN_INTERVAL_TRIALS]
    if single:
        reason = f"one trial{_where(single, cells)}: no interval"
        yield Trust(word="low", reason=reason, remedy=remedy("few_trials"))
    widest = max(cells, key=lambda cell: half_width(cell.throughput) or 0.0)
    width = half_width(widest.throughput) or 0.0
    if width > LOW_HALF_WIDTH:
        yield _wide("low", widest, width)
    yield from _flagged("limited", LIMITED_TRUST, cells)
    if width > LIMITED_HALF_WIDTH:
        yield _wide("limited", widest, width)
    few = [cell for cell in cells if cell.trials < MIN_TRIALS]
    if few:
        reason = f"{formatting.counted(few[0].trials, 'trial')}{_where(few, cells)}"
        yield Trust(word="limited", reason=reason, remedy=remedy("few_trials"))


def _flagged(word: TrustWord, reasons: Mapping[str, str], cells: Sequence[Cell]) -> Iterator[Trust]:
    for flag, reason in reasons.items():
        having = [cell for cell in cells if flag in cell.flags]
        if having:
            yield Trust(word=word, reason=f"{reason}{_where(having, cells)}", remedy=remedy(flag))


def _where(having: Sequence[Cell], cells: Sequence[Cell]) -> str:
    """`` in 2 of 5 cells``; empty where it is so in all of them."""
    return "" if len(having) == len(cells) else f" in {len(having)} of {len(cells)} cells"


def _wide(word: TrustWord, cell: Cell, width: float) -> Trust:
    """What is said of the widest interval, with what made it so wide where that is known."""
    text = _width_text(cell, width)
    if cell.trials < MIN_TRIALS:
        reason = f"{text}, from {formatting.counted(cell.trials, 'trial')}"
        return Trust(word=word, reason=reason, remedy=remedy("few_trials"))
    disturbance = next((flag for flag in DISTURBANCES if flag in cell.flags), None)
    if disturbance is not None:
        return Trust(word=word, reason=f"{text}; {LIMITED_TRUST[disturbance]}", remedy=remedy(disturbance))
    return Trust(word=word, reason=text, remedy=remedy("imprecise") if "imprecise" in cell.flags else MORE_TRIALS)


def _width_text(cell: Cell, width: float) -> str:
    spread = (
        f"± {formatting.share(width)}" if width < 1 else f"as wide as a factor of {formatting.number((1 + width) ** 2)}"
    )
    return f"the interval of {cell.labels.backend_at_ranks} is {spread}"


def _grounds(cells: Sequence[Cell]) -> str:
    """``same work, 5 trials a cell, intervals within ± 3 %``"""
    trials = min(cell.trials for cell in cells)
    width = max(half_width(cell.throughput) or 0.0 for cell in cells)
    proven = all(cell.same_work is not None and cell.same_work.verdict == "same" for cell in cells)
    interval = f"± {formatting.share(max(width, MIN_SHOWN_WIDTH), 0 if width >= 0.01 else 1)}"
    return f"{'same work, ' if proven else ''}{formatting.counted(trials, 'trial')} a cell, intervals within {interval}"
