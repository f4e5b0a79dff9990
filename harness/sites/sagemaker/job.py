"""A training job that runs trials one after another: watched, stopped, and what its hosts leave on S3.

What a host leaves of a trial is on S3 as soon as the trial has ended there, as an archive in the job's checkpoints,
which SageMaker copies continually. What is left of a trial that did not end comes with the output of the whole job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from bench.node.trial_feed import archive_name
from harness.errors import HarnessError
from harness.sites.base.contract import TrialRequest, TrialResult
from harness.sites.base.packed import PackedJob
from harness.sites.base.remote import MARGIN_S, LostNode, gather_result, read_node_reports
from harness.sites.sagemaker.archives import BadArchive, unpack
from harness.sites.sagemaker.client import AwsClient, AwsError, TrainingJobDescription
from harness.sites.sagemaker.costs import SharedBill
from harness.sites.sagemaker.training_job import (
    SagemakerOptions,
    certificate_object,
    checkpoint_folder,
    host_names,
    output_archive,
)

MAX_UNREACHABLE_S = 600.0
"""How long SageMaker may be out of reach before the sweep is given up."""
STOP_TIMEOUT_S = 600.0
"""How long a job may take to stop: its containers get two minutes, and their output is saved afterwards."""
POLL_GROWTH, MAX_POLL_FACTOR = 1.2, 6.0
"""The polling interval grows by this factor each time, to at most this multiple of ``poll_s``."""
LOG_LINES = 20


class SagemakerJob(PackedJob):
    """A training job, running or ended.

    Args:
        cloud: The account and region.
        options: The site's options.
        name: The job's name.
        trials: Their folders receive the job's output.
        certified: Whether its hosts have a certificate in common.
        reattached: Whether it was submitted by another process, so that trials before these may have ended it.
        clock: The time in seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        cloud: AwsClient,
        options: SagemakerOptions,
        name: str,
        trials: Sequence[TrialRequest],
        *,
        certified: bool = False,
        reattached: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cloud, self.options, self.name, self.trials = cloud, options, name, list(trials)
        self.certified, self.reattached, self.clock, self.sleep = certified, reattached, clock, sleep
        self.ended = False
        self.reports_early = len(trials) > 1 or reattached
        """Whether results are taken while it runs."""
        self.restarted = False
        """Whether it was stopped since its instances started again: they would run trials whose results were taken."""
        self.bill = SharedBill(options.price_per_hour, spot=options.spot, is_known=not (reattached and options.pack))

    def wait_for(self, trial: TrialRequest, timeout_s: float) -> TrialResult | None:
        if self.ended:
            return None
        # What becomes of the job is a part of its last trial.
        is_last = self.trials == [trial]
        with self._errors_name_the_job("can't be watched any longer"):
            job, timed_out = self._watch(timeout_s + MARGIN_S, until=lambda: not is_last and self._arrived(trial))
            result = None if is_last or timed_out else self._result_so_far(trial, job)
            if result is None:
                if not job.over:
                    # Its agents end with a trial that has failed.
                    job, _ = self._watch(MARGIN_S, until=lambda: False)
                problem = self._download_output(trial)
                result = self._result(trial, job, problem, timed_out=timed_out)
        if is_last or result.outcome != "ok":
            self.ended = True
            self._remove_certificate()
        self.trials.remove(trial)
        if self.ended and self.reattached and not read_node_reports(trial.folder):
            # A trial before it has ended the job, of which nothing is known.
            return None
        return result

    def _remove_certificate(self) -> None:
        """Where that is not permitted, what is left opens nothing: the processes that took it are gone."""
        if self.certified:
            with suppress(AwsError):
                self.cloud.remove(certificate_object(self.options, self.name))

    def cancel(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._remove_certificate()
        with self._errors_name_the_job("could not be stopped and may still be billed"):
            self.cloud.stop(self.name)

    @contextmanager
    def _errors_name_the_job(self, what: str) -> Iterator[None]:
        """Raise errors as :class:`HarnessError` that names the job, which is left as it is."""
        try:
            yield
        except AwsError as problem:
            stop_command = f"aws sagemaker stop-training-job --training-job-name {self.name}"
            raise HarnessError(
                f"SageMaker job {self.name} {what} ({problem}); `python -m harness sweep --resume` "
                f"continues to watch it, `{stop_command}` stops it"
            ) from None

    def _watch(self, limit_s: float, until: Callable[[], bool]) -> tuple[TrainingJobDescription, bool]:
        """Poll the job until it has ended or ``until`` says so, and stop it once its containers have run for
        ``limit_s``; queueing does not count. Returns the last description and whether the job was stopped for that."""
        pause_s, training_since, stopped_at, timed_out = self.options.poll_s, None, None, False
        while True:
            job = self._describe_with_retries()
            now = self.clock()
            if job.over or (stopped_at is not None and now - stopped_at > STOP_TIMEOUT_S):
                return job, timed_out
            if job.containers_running and training_since is None:
                training_since, pause_s = now, self.options.poll_s
            if stopped_at is None and job.containers_running and until():
                return job, False
            timed_out = timed_out or (training_since is not None and now - training_since > limit_s)
            restarts = training_since is not None and self.reports_early and job.starts
            if stopped_at is None and (timed_out or restarts):
                self.restarted = restarts
                self.cloud.stop(self.name)
                stopped_at, pause_s = now, self.options.poll_s
            self.sleep(pause_s)
            pause_s = min(pause_s * POLL_GROWTH, self.options.poll_s * MAX_POLL_FACTOR)

    def _describe_with_retries(self) -> TrainingJobDescription:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

        retrying = Retrying(
            stop=stop_after_delay(MAX_UNREACHABLE_S),
            wait=wait_fixed(self.options.poll_s * MAX_POLL_FACTOR),
            retry=retry_if_exception(lambda error: isinstance(error, AwsError) and error.transient),
            sleep=self.sleep,
            reraise=True,
        )
        job = retrying(self.cloud.describe, self.name)
        if job is None:
            raise AwsError("ResourceNotFound", "there is no SageMaker job of this name")
        return job

    def _archives(self, trial: TrialRequest) -> list[str]:
        """The objects that hold what the hosts left of a trial, by node."""
        folder = checkpoint_folder(self.options, self.name)
        return [f"{folder}/{archive_name(trial.folder.name, node)}" for node in range(trial.case.nodes)]

    def _arrived(self, trial: TrialRequest) -> bool:
        """Whether all hosts' archives of a trial are on S3."""
        return all(self.cloud.written_at_s(uri) is not None for uri in self._archives(trial))

    def _result_so_far(self, trial: TrialRequest, job: TrainingJobDescription) -> TrialResult | None:
        """The result of a trial that has ended while its job runs on; ``None`` where it did not succeed: then the
        job ends too, which may say why."""
        written = [self.cloud.written_at_s(uri) for uri in self._archives(trial)]
        if None in written or any(self._fetch(uri, trial) for uri in self._archives(trial)):
            return None
        result = gather_result(trial.folder, trial.case)
        if result.outcome != "ok":
            return None
        cost, unknown = self.bill.share(job, max((time_s for time_s in written if time_s is not None), default=None))
        return replace(result, cost=cost, cost_reason=unknown)

    def _download_output(self, trial: TrialRequest) -> str | None:
        """Unpack the hosts' output of a trial into its folder; returns why there is none."""
        return self._fetch(output_archive(self.options, self.name), trial, trial.folder.name)

    def _fetch(self, uri: str, trial: TrialRequest, folder: str | None = None) -> str | None:
        """Unpack an archive, or one of its folders, into the folder of a trial; returns why there is none."""
        name = uri.rpartition("/")[2]
        archive = trial.folder / name
        if not self.cloud.fetch(uri, archive):
            return f"there is no {name}"
        try:
            with archive.open("rb") as content:
                unpack(content, trial.folder, trial=folder)
        except BadArchive as problem:
            return f"its {name} {problem}"
        finally:
            archive.unlink()
        return None

    def _result(
        self, trial: TrialRequest, job: TrainingJobDescription, problem: str | None, *, timed_out: bool
    ) -> TrialResult:
        case, folder = trial.case, trial.folder
        reason = f"SageMaker reports {job.failure}" if job.failure else problem or ""
        if self.restarted:
            reason = "SageMaker has started its instances again, since they were interrupted"
        unreported = sorted(set(range(case.nodes)) - set(read_node_reports(folder)))
        names = host_names(case.nodes)
        lost = [LostNode(node, names[node], reason) for node in unreported] if reason and not timed_out else []
        tail = [
            *([f"SageMaker: {job.status}: {job.failure}"] if job.failure else []),
            *([problem] if problem else []),
        ]
        if unreported:
            tail += self._log_tail()
        result = gather_result(folder, case, lost, timed_out=timed_out, no_report_reason=reason, log_tail=tail)
        if job.failure and result.outcome == "ok":
            result = replace(result, outcome="failed", reason=reason, log_tail=tuple(tail))
        cost, unknown = self.bill.share(job, None)
        return replace(result, cost=cost, cost_reason=unknown)

    def _log_tail(self) -> list[str]:
        try:
            return self.cloud.log_tail(self.name, LOG_LINES)
        except AwsError as problem:
            return [f"CloudWatch's log can't be read: {problem}"]
