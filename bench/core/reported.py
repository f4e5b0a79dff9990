"""What a user's own program reports of its training by ``harness.report``, in one rank."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.core.bounds import Amount, Count, Measured
from bench.core.frozen_model import FrozenModel

MAX_LOSSES = 64
"""The most steps whose losses a record keeps: the first ones."""


class ReportedLoss(FrozenModel):
    """The loss of one step on one rank: the mean of what was reported in it."""

    step: Count
    """The number that the program gave, or the steps of its optimizer that had ended."""
    value: Measured
    samples: Amount = 1.0
    """Its weight in the mean over the ranks: the samples that the program gave; 1 for each report without any."""


class ReportedParameters(FrozenModel):
    """The parameters of a rank at the end of the last step that was seen."""

    step: Count
    """How many steps of the program's optimizer had ended."""
    digest: str
    """SHA-256 of their bytes, in order."""
    sharded: bool = False
    """A rank holds a part of them only, so that ranks need not be equal."""


class Reported(FrozenModel):
    """All that one rank reported."""

    losses: Annotated[tuple[ReportedLoss, ...], Field(max_length=MAX_LOSSES)] = ()
    """Of the first steps with a finite loss, in the order of their numbers."""
    parameters: ReportedParameters | None = None
    arithmetic: str | None = None
    """The floating-point type of the fewest digits in the computation of the first loss, such as ``bfloat16``."""
    random: str | None = None
    """Why losses depend on the number of ranks in a correct program too: ``it has dropout (1.dropout)``."""
    problem: str | None = None
    """What could not be used of what was reported, in one line."""
