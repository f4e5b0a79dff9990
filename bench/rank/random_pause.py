"""A pause of random length before the warm-up, so that the trials of a cell see different phases of the energy counter.

The counter of a GPU looks at the power at intervals of its own (:mod:`reports.analysis.energy_alias`). Steps as long as
such an interval are at the same point each time it looks, and read too much or too little by where that is. Trials that
begin at random phases show it by their spread. Ranks pause before the warm-up and not between it and the window: there
the device would cool down, and its idle power would be read with the first steps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bench.core.case import Case
from bench.plugins.backend import Session

MAX_PAUSE_S = 0.1
"""The longest interval at which the counters of GPUs look, and a multiple of the shorter ones, in seconds."""
OFF = "off"


def pause(
    case: Case,
    session: Session,
    draw: Callable[[float, float], float] = random.SystemRandom().uniform,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Pause on all ranks alike, where the energy of GPUs is read.

    Args:
        case: The case.
        session: The group of ranks.
        draw: Draws a number between two others.
        sleep: Waits for a number of seconds.

    Returns:
        The length of the pause in seconds, as rank 0 drew it; 0: there was none.
    """
    if case.device != "cuda" or case.telemetry == OFF:
        return 0.0
    length_s = session.largest(draw(0.0, MAX_PAUSE_S) if session.rank == 0 else 0.0)
    sleep(length_s)
    return length_s
