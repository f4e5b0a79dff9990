"""How a user's own program ran in one rank, as far as it was seen without its help."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import harmonic_mean
from typing import Annotated, Literal

from pydantic import Field

from bench.core.bounds import MAX_COUNT, Count, Duration, Measured, PositiveCount, Work
from bench.core.frozen_model import FrozenModel
from bench.core.reported import Reported

Counted = Literal["DataLoader", "given", "printed"]
"""How the work of a step is known: from the batches of torch's DataLoader, from ``--samples-per-step``, or from the
rate that the program prints."""
Ended = Literal["stopped", "by itself"]
MetricScope = Literal["rank", "total"]
MAX_PRINTED = 1000
"""The most printed values that a record keeps: of more, evenly spaced ones."""

ExitStatus = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT)]


class ProgramRun(FrozenModel):
    """What one rank saw of the program that it ran. Durations are seconds of its node's monotonic clock."""

    counted: Counted
    steps_from: Literal["optimizer", "output"] = "optimizer"
    """What marks the end of a step: a step of the program's (first) optimizer, or a printed value of its metric."""
    amount_per_step: Work | None = None
    """What this rank alone processes in a step of the window, in the unit of the record; ``None``: it is not known of a
    single rank, but of all together."""
    loaders: Count = 0
    """The DataLoaders whose batches were counted."""
    optimizers: PositiveCount | None = None
    """The optimizers that took steps. The first one marks the steps. ``None``: none was seen."""
    printed: Annotated[tuple[Measured, ...], Field(max_length=MAX_PRINTED)] = ()
    """The values of the metric that this rank printed in the window."""
    printed_scope: MetricScope = "total"
    """Whether a printed value is of one rank or of all together."""
    joined: bool | None = None
    """Whether it had joined other ranks when its window ended: see :mod:`bench.rank.program.process_group`. ``None``:
    not known, as of a program that has ended by itself."""
    ended: Ended
    """``stopped``: after its window; else it came to its own end."""
    exit_status: ExitStatus | None = None
    """The exit status of a program that ended by itself."""
    exit_problem: str | None = None
    """What a stopped program did instead of ending: ``it went on after SystemExit``."""
    steps: Count
    """All steps that were seen, before, in and after the window."""
    wall_s: Duration
    """From the start of the rank's process to the program's end, or to when it was stopped."""
    stepping_s: Duration
    """Time in steps: from the beginning of the first to the end of the last, without what is in
    :attr:`checkpoint_s` and :attr:`evaluation_s`."""
    checkpoint_s: Duration = 0.0
    """Time in which the program's main thread waited for the saving of checkpoints, between its first and last step."""
    checkpoints: Count = 0
    """How many times it did."""
    evaluation_s: Duration = 0.0
    """Time, between its first and last step, from the first to the last batch of DataLoaders that it does not train
    on."""
    whole: bool = False
    """Whether it was let end by itself (``--whole``)."""
    reported: Reported | None = None
    """What it reported by ``harness.report``; ``None``: nothing."""


def total_amount(ranks: Sequence[ProgramRun], step_s: float) -> float | None:
    """What all ranks of a program together process in a step (pure).

    Args:
        ranks: The runs of all ranks.
        step_s: The mean duration of a step on the slowest rank, in seconds: it turns a printed rate into the amount of
            a step. That of a rank is the harmonic mean of what it printed, each time after as many steps.

    Returns:
        The amount, in the unit of the records; ``None``: it is known of no rank, or not of one that counts by itself.
    """
    if any(run.counted == "printed" for run in ranks):
        rates = [harmonic_mean(run.printed) for run in ranks if run.printed and min(run.printed) > 0]
        if not rates or (ranks[0].printed_scope == "rank" and len(rates) < len(ranks)):
            return None
        # The same total, where several ranks print it.
        rate = sum(rates) if ranks[0].printed_scope == "rank" else rates[0]
        return rate * step_s
    amounts = [run.amount_per_step for run in ranks if run.amount_per_step is not None]
    return sum(amounts) or None
