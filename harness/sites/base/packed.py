"""Trials of a round that one job of a site runs one after another, in fresh processes of the same node agents.

A trial that does not succeed is the last of its job: its agents end, so that nothing of it is left in the next trial,
and another job runs the rest.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from bench.core.case import Case
from bench.node.trial_feed import FedTrial
from harness.sites.base.contract import Job, TrialRequest, TrialResult
from harness.sites.base.remote import failed_start, rendezvous_port
from harness.sites.base.running_trial import replace_job_handle

MAX_TRIAL_BYTES = 1000
"""What the list says of a trial besides its case."""


def listed_trial(trial: TrialRequest, case: Case, *, fresh: bool) -> dict[str, Any]:
    """A trial as the agents of a job find it in their list (pure).

    Args:
        trial: Its name is that of its folder.
        case: As the agents are to run it.
        fresh: Whether its folder on the node is removed when it has ended.
    """
    name = trial.folder.name
    # An agent that is ahead of another one must not meet that at the trial before.
    variables = {"MASTER_PORT": str(rendezvous_port(name))}
    document = FedTrial(name=name, out=name, fresh=fresh, variables=variables)
    # The agents may be of another version, whose cases have other defaults.
    return {**document.model_dump(mode="json", exclude_defaults=True), "case": case.model_dump(mode="json")}


def trial_list(trials: Sequence[dict[str, Any]]) -> str:
    """The text of the list (pure)."""
    return json.dumps(trials, indent=1)


def listed_bytes(case: Case) -> int:
    """What a case takes in the list, at most (pure)."""
    return len(case.model_dump_json(indent=3).encode()) + MAX_TRIAL_BYTES


def preload_arguments(cases: Sequence[Case], modules: Sequence[str]) -> list[str]:
    """The arguments by which agents import once what the ranks of these cases need (pure).

    Args:
        cases: Of all trials.
        modules: What their backends name to be imported beside the frameworks.
    """
    # Ranks that run a program import nothing of ours.
    return [f"--preload={','.join(modules)}"] if any(case.program is None for case in cases) else []


def batches_by(
    cases: Sequence[Case], shape: Callable[[Case], Hashable], size: Callable[[Case], float], most: float
) -> list[list[Case]]:
    """Cases in groups for one job each, which keep their order (pure).

    Args:
        cases: Those of a round.
        shape: What the cases of a job have in common.
        size: Of a case, at least 0.
        most: How large the cases of a job are in all; one that is larger has a job of its own.
    """
    groups: dict[Hashable, list[list[Case]]] = {}
    for case in cases:
        parts = groups.setdefault(shape(case), [[]])
        if parts[-1] and sum(map(size, parts[-1])) + size(case) > most:
            parts.append([])
        parts[-1].append(case)
    return [part for parts in groups.values() for part in parts]


class PackedJob(ABC):
    """A job of a site, which runs several trials one after another."""

    name: str

    @abstractmethod
    def wait_for(self, trial: TrialRequest, timeout_s: float) -> TrialResult | None:
        """Wait until a trial ends, or end it after ``timeout_s`` seconds of running.

        The job has ended when it returns a result that is not ``ok``, and nothing of it is left running.

        Returns:
            Its result; ``None`` where the job ended before this trial's turn.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the job now. A second call does nothing."""


JobT = TypeVar("JobT", bound=PackedJob)


class Round(Generic[JobT]):
    """Trials that a job runs, and further jobs where it ends before it has run all of them.

    Args:
        job: Runs them in this order.
        trials: Those whose results are waited for.
        submit: Submits a job for trials.
    """

    def __init__(
        self, job: JobT, trials: Iterable[TrialRequest], submit: Callable[[Sequence[TrialRequest]], JobT]
    ) -> None:
        self.job, self.trials, self.submit = job, list(trials), submit

    def wait_for(self, trial: TrialRequest, timeout_s: float) -> TrialResult:
        result = self.job.wait_for(trial, timeout_s)
        while result is None:
            self.job = self.submit(self.trials)
            for waiting in self.trials:
                replace_job_handle(waiting.folder, self.job.name)
            result = self.job.wait_for(trial, timeout_s)
        self.trials = [waiting for waiting in self.trials if waiting.folder != trial.folder]
        return result


class UnstartedPackedJob(PackedJob):
    """A job that could not be submitted."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason

    def wait_for(self, trial: TrialRequest, timeout_s: float) -> TrialResult | None:
        return failed_start(self.reason)

    def cancel(self) -> None:
        return


class PackedTrial(Job):
    """A trial of a round."""

    def __init__(self, packed: Round[Any], trial: TrialRequest) -> None:
        self.round, self.trial = packed, trial
        self.handle = packed.job.name

    def wait(self, timeout_s: float) -> TrialResult:
        return self.round.wait_for(self.trial, timeout_s)

    def cancel(self) -> None:
        """End the job, the trials after this one included."""
        self.round.job.cancel()
