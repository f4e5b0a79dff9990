"""What is known of a user's own program over the trials of a cell: how its work was counted, and how it ran to its end.

The time to the end is that of the rank that took longest, from the start of its process; goodput is the time in steps ÷
that time, of the rank with the least. A step that waits for a checkpoint or an evaluation is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.frozen_model import FrozenModel
from bench.core.program_run import Counted, Ended, MetricScope, ProgramRun
from bench.core.records import RankRecord, Trial
from reports.analysis.stats import Estimate, arithmetic_mean

NOT_WHOLE = "the program was stopped after its window: --whole lets it end by itself"


class WholeRun(FrozenModel):
    """A program from its start to its own end, each over the trials."""

    time_to_end_s: Estimate
    startup_s: Estimate
    """From the start of a rank's process to the program's first step, on the slowest rank."""
    steps: Estimate
    checkpoint_s: Estimate
    """In which steps waited for the saving of checkpoints, on the rank that waited longest."""
    checkpoints: Estimate
    evaluation_s: Estimate
    goodput: Estimate
    """A share of :attr:`time_to_end_s`."""


class ProgramSummary(FrozenModel):
    """How a cell's program was seen and ran."""

    counted: Counted
    metric_scope: MetricScope | None
    """Of a printed rate: whether each rank prints its own."""
    steps_from: str
    """``optimizer`` or ``output``."""
    loaders: int
    """The DataLoaders whose batches were counted, in a rank."""
    optimizers: int | None
    ended: Ended
    exit_status: int | None
    exit_problem: str | None
    """What a stopped program did instead of ending."""
    whole: WholeRun | None = None
    whole_reason: str | None = None
    """Why its run to the end is unknown."""

    @property
    def work_counted(self) -> str:
        """``samples counted by the DataLoader``, with how a printed rate is meant."""
        if self.counted == "DataLoader":
            several = f"{self.loaders} DataLoaders" if self.loaders > 1 else "the DataLoader"
            return f"counted by {several}"
        if self.counted == "given":
            return "given by --samples-per-step"
        return f"printed by the program ({'of each rank' if self.metric_scope == 'rank' else 'of all ranks together'})"

    @property
    def steps_seen(self) -> str:
        """What marks the end of a step."""
        if self.steps_from == "output":
            return "each printed value"
        return "its optimizer" if self.optimizers in (None, 1) else f"the first of its {self.optimizers} optimizers"

    @property
    def end(self) -> str:
        """How it ended."""
        if self.ended == "stopped":
            return f"stopped after its window{f'; {self.exit_problem}' if self.exit_problem else ''}"
        return "by itself" + ("" if self.exit_status is None else f", exit status {self.exit_status}")


def summarize_program(trials: Sequence[Trial]) -> ProgramSummary | None:
    """What is known of the program of a cell; ``None`` of other work. ``trials``: the successful ones."""
    by_trial = [_runs(trial.ranks) for trial in trials]
    if not by_trial or not all(by_trial):
        return None
    first = by_trial[0][0]
    problem = next((run.exit_problem for runs in by_trial for run in runs if run.exit_problem), None)
    is_whole = all(run.whole for runs in by_trial for run in runs)
    return ProgramSummary(
        counted=first.counted,
        metric_scope=first.printed_scope if first.counted == "printed" else None,
        steps_from=first.steps_from,
        loaders=first.loaders,
        optimizers=first.optimizers,
        ended=first.ended,
        exit_status=first.exit_status,
        exit_problem=problem,
        whole=_whole_run(trials) if is_whole else None,
        whole_reason=None if is_whole else NOT_WHOLE,
    )


def time_to_end_s(ranks: Sequence[RankRecord]) -> float:
    """How long a program of several ranks ran, in seconds."""
    return max(run.wall_s for run in _runs(ranks))


def goodput(ranks: Sequence[RankRecord]) -> float:
    """The smallest share of a rank's time that it spent in steps."""
    return min(run.stepping_s / max(run.wall_s, run.stepping_s, 1e-9) for run in _runs(ranks))


def _whole_run(trials: Sequence[Trial]) -> WholeRun:
    runs = [_runs(trial.ranks) for trial in trials]
    return WholeRun(
        time_to_end_s=arithmetic_mean([time_to_end_s(trial.ranks) for trial in trials], "s"),
        startup_s=arithmetic_mean([max(rank.startup_s for rank in trial.ranks) for trial in trials], "s"),
        steps=arithmetic_mean([max(run.steps for run in ranks) for ranks in runs], "1"),
        checkpoint_s=arithmetic_mean([max(run.checkpoint_s for run in ranks) for ranks in runs], "s"),
        checkpoints=arithmetic_mean([max(run.checkpoints for run in ranks) for ranks in runs], "1"),
        evaluation_s=arithmetic_mean([max(run.evaluation_s for run in ranks) for ranks in runs], "s"),
        goodput=arithmetic_mean([goodput(trial.ranks) for trial in trials], "1"),
    )


def _runs(ranks: Sequence[RankRecord]) -> list[ProgramRun]:
    return [rank.program for rank in ranks if rank.program is not None]
