"""The control plane: plans, runs, stores, and the command line.

A user's own program imports this package for :func:`report` alone, which loads nothing else.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["report"]


def report(*, loss: Any = None, parameters: Any = None, step: int | None = None, samples: float | None = None) -> None:
    """Report a step of your program's training to the sweep that runs it; outside a sweep it does nothing.

    Every rank reports, with the same arguments. The losses, the mean over the ranks, are compared with those of the
    smallest number of ranks, and the parameters of all ranks must be equal after the measured window.

    Args:
        loss: The loss of this rank's samples: a number or a tensor of one element. Of several reports in a step, the
            mean counts.
        parameters: The model, its parameters or its state dictionary. They are read after the measured window: give
            the ones that are trained, not a copy.
        step: The number of the step; by default, how many steps your optimizer has taken.
        samples: How many samples the loss is a mean over, where ranks have different numbers of them.
    """
    # Loaded by a rank of a sweep only.
    reports = sys.modules.get("bench.rank.program.reported")
    if reports is not None:
        reports.report(loss=loss, parameters=parameters, step=step, samples=samples)
