"""What becomes of the efficiency that is lost: the shares of a step that a perfectly scaling one would not have.

With the step time T = c + waiting + exposed, c the mean own time of a rank and CS the computation scaling (the time
that the same work takes at the smallest rank count ÷ here), a perfectly scaling step takes c·CS. So

    1 − global efficiency = exposed/T + waiting/T + c(1 − CS)/T

exactly. A share below 0 is a gain: smaller pieces that fit into a cache make compute faster.
"""

from __future__ import annotations

from reports.details import Decomposition

EXPOSED = "communication that compute could not hide"
WAITING = "waiting for the slowest rank"
MIN_SHARE = 0.05
"""Of a step: a loss below is not worth a word."""
SLOWER = "compute that takes longer than at the smallest rank count"


def efficiency_losses(decomposition: Decomposition) -> dict[str, float]:
    """Shares of a step by cause; empty where the smallest rank count was not decomposed."""
    if decomposition.computation_scaling is None:
        return {}
    step_s = decomposition.step_s.value
    waiting_s, exposed_s = decomposition.parts_s["waiting"].value, decomposition.parts_s["exposed"].value
    own_s = step_s - waiting_s - exposed_s
    return {
        EXPOSED: exposed_s / step_s,
        WAITING: waiting_s / step_s,
        SLOWER: own_s * (1 - decomposition.computation_scaling.value) / step_s,
    }
