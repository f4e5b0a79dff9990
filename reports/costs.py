"""What trials were billed, and what a sample costs by that (pure).

A trial is billed from its start to its end, and trains for a part of that. Of the cost of a sample two bounds are
known: at most the trial's whole cost ÷ the samples of its measured window, as if start, warm-up and checks had to be
paid for so few; at least the cost of as much time as the window took, as if all the time from asking for the trial to
its end (queueing and provisioning too, which are rarely billed) had been paid for at one rate. The longer a run, the
nearer it comes to the lower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.records import Trial
from reports.analysis.stats import Estimate, arithmetic_mean
from reports.analysis.throughput import throughput_of


def cost_of(trials: Sequence[Trial]) -> Estimate | None:
    """The mean over the trials whose cost is known, failed ones too: they are billed as well."""
    known = [trial.cost for trial in trials if trial.cost is not None]
    return arithmetic_mean(known, "") if known else None


def cost_per_unit(good: Sequence[Trial]) -> tuple[float, float] | None:
    """At least and at most, of a sample, byte or element: means over the good trials whose cost is known."""
    known = [(trial, trial.cost) for trial in good if trial.cost is not None]
    if not known:
        return None
    least = fmean(cost / trial.wall_s / throughput_of(trial.ranks) for trial, cost in known)
    most = fmean(cost / _window_units(trial) for trial, cost in known)
    return least, max(least, most)


def _window_units(trial: Trial) -> float:
    first = trial.ranks[0]
    return first.amount_per_step * len(first.step_s)
