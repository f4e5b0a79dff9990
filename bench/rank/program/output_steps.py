"""Steps that are seen in a program's output alone, where only rank 0 prints: the other ranks of its node follow it.

Their program takes part in the same steps, of which nothing can be seen in them. Their records hold rank 0's window,
with steps of equal length.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bench.rank.program.board import Board, OutputWindow
from bench.rank.program.watch import StepWatch

INTERVAL_S = 0.05
END_WAIT_S = 2.0
"""How long a rank that ends waits for what rank 0 says of its output: they end at about the same time."""


class OutputFollower:
    """Waits on a rank that has not seen any step for the window of rank 0.

    Args:
        board: What it shares with rank 0, on the same node.
        watch: The steps of this rank.
        on_window: Called, in a thread of its own, once rank 0 has stopped its program.
    """

    def __init__(self, board: Board, watch: StepWatch, on_window: Callable[[], None]) -> None:
        self._board, self._watch, self._on_window = board, watch, on_window
        self._ended = threading.Event()

    def start(self) -> None:
        """Follow from now on."""
        threading.Thread(target=self._follow, name="output-follower", daemon=True).start()

    def end(self) -> None:
        """Follow no longer."""
        self._ended.set()

    def adopt(self, wait_s: float = 0.0) -> bool:
        """Take over the window of rank 0; returns whether it has one.

        Args:
            wait_s: How long to wait for it.
        """
        deadline = time.monotonic() + wait_s
        while (window := self._board.output_window()) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(INTERVAL_S)
        self._watch.adopt(window)
        return True

    def _follow(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            if self._watch.marks.count:
                return
            window = self._board.output_window()
            if window is not None and window.stopped:
                self._watch.adopt(window)
                self._on_window()
                return


def output_window_of(watch: StepWatch, first: int, last: int, *, stopped: bool) -> OutputWindow:
    """What rank 0 tells of its window."""
    return OutputWindow(
        first, last, int(watch.marks.at_s(first) * 1e9), int(watch.marks.at_s(last) * 1e9), int(stopped)
    )
