"""When the ranks' measured window begins and ends, as far as a sampler beside them can tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

NEAR_EDGE_S = 0.3
"""How long after the beginning or the end of a window everything near it is still of interest, in seconds."""

WindowPhase = Literal["outside", "warm-up", "window"]
"""Where ranks are: their window follows the warm-up."""


class WindowEdges:
    """Whether the beginning or the end of the ranks' window is near.

    Args:
        read_phase: Where the ranks on this node are.
        expected_s: How long their window probably lasts, in seconds; ``None``: nobody knows.
    """

    def __init__(self, read_phase: Callable[[], WindowPhase], expected_s: float | None = None) -> None:
        self._read_phase, self._expected_s = read_phase, expected_s
        self._in_window = False
        self._last_edge_s = -math.inf

    def near(self, now_s: float) -> bool:
        """Whether the ranks warm up, or their window has just begun or ended, or is about to end."""
        phase = self._read_phase()
        if (phase == "window") != self._in_window:
            self._in_window, self._last_edge_s = not self._in_window, now_s
        since_s = now_s - self._last_edge_s
        return phase == "warm-up" or since_s < NEAR_EDGE_S or (self._in_window and self._is_about_to_end(since_s))

    def _is_about_to_end(self, since_s: float) -> bool:
        """Of a window that has lasted for so long; one that lasts much longer than expected may end at any time."""
        return self._expected_s is not None and -NEAR_EDGE_S < since_s - self._expected_s < self._expected_s
