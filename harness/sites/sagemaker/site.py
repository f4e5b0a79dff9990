"""AWS SageMaker: every trial is a training job, every node one of its instances.

Case and source go to S3, CreateTrainingJob starts the instances, and the records come back from S3. The containers run
:mod:`bench.node.sagemaker_entry`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate
from bench.plugins.backend import Options
from harness.errors import HarnessError
from harness.interrupts import interrupts_allowed
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult
from harness.sites.base.remote import (
    MARGIN_S,
    LostNode,
    UnstartedJob,
    gather_result,
    needs_certificate,
    read_node_reports,
)
from harness.sites.sagemaker.archives import BadArchive, pack_source, unpack
from harness.sites.sagemaker.client import AwsClient, AwsError, TrainingJobDescription
from harness.sites.sagemaker.training_job import (
    SOURCE_ARCHIVE,
    SagemakerOptions,
    certificate_object,
    cost_of,
    data_files,
    data_folder,
    host_names,
    job_folder,
    job_name,
    missing_option,
    output_archive,
    request_json,
    training_job_request,
    unsupported_reason,
    with_remote_data,
)

MAX_UNREACHABLE_S = 600.0
"""How long SageMaker may be out of reach before the sweep is given up."""
STOP_TIMEOUT_S = 600.0
"""How long a job may take to stop: its containers get two minutes, and their output is saved afterwards."""
POLL_GROWTH, MAX_POLL_FACTOR = 1.2, 6.0
"""The polling interval grows by this factor each time, to at most this multiple of ``poll_s``."""
LOG_LINES = 20


class SagemakerSite(Site):
    name = "sagemaker"
    summary = "AWS SageMaker training jobs; an instance is a node"
    options = SagemakerOptions
    requires = ("boto3",)
    extra = "sagemaker"
    chosen: SagemakerOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.cloud = AwsClient(self.chosen.region, self.chosen.profile)

    def missing_option(self) -> str | None:
        return missing_option(self.chosen)

    def unavailable_reason(self, case: Case) -> str | None:
        return self.missing_dependency() or unsupported_reason(case, self.chosen) or self._access_problem

    @cached_property
    def _access_problem(self) -> str | None:
        return self.cloud.unavailable_reason()

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        # The submitted name has another ending: SageMaker accepts no name twice.
        certified = needs_certificate(case, roles)
        request = training_job_request(case, self.chosen, job_name(case), certified=certified)
        return {"training-job.json": request_json(request)}

    def start(self, trial: TrialRequest) -> Job:
        name = job_name(trial.case, secrets.token_hex(4))
        job = SagemakerJob(self.cloud, self.chosen, trial, name)
        try:
            certified = needs_certificate(trial.case, trial.roles)
            with interrupts_allowed():
                self._upload_inputs(trial.case, name, certified=certified)
                self.cloud.create(training_job_request(trial.case, self.chosen, name, certified=certified))
        except AwsError as problem:
            if problem.concerns_account:
                raise HarnessError(
                    f"SageMaker accepts no jobs ({problem}); correct that, then `python -m harness sweep --resume`"
                ) from None
            return UnstartedJob(f"SageMaker did not accept the job: {problem}")
        except BaseException:
            # The job may have been created already.
            job.cancel()
            raise
        return job

    def _upload_inputs(self, case: Case, name: str, *, certified: bool) -> None:
        folder = job_folder(self.chosen, name)
        self.cloud.put(f"{folder}/input/case/case.json", with_remote_data(case).model_dump_json().encode())
        if certified:
            self.cloud.put(certificate_object(self.chosen, name), create_certificate().encode())
        if self.chosen.mode == "script":
            self.cloud.put(f"{folder}/input/code/{SOURCE_ARCHIVE}", pack_source())
        if case.data is not None:
            for title, path in data_files(case).items():
                self.cloud.put_file(f"{data_folder(self.chosen, case.data.digest)}/{title}", path)

    def reattach(self, trial: TrialRequest, handle: str) -> Job | None:
        try:
            description = self.cloud.describe(handle)
        except AwsError as problem:
            raise HarnessError(f"SageMaker job {handle} can't be queried: {problem}") from None
        if description is None or description.status in ("Stopping", "Stopped", "Deleting"):
            return None
        return SagemakerJob(self.cloud, self.chosen, trial, handle)


class SagemakerJob(Job):
    """A training job, running or ended.

    Args:
        cloud: The account and region.
        options: The site's options.
        trial: Its folder receives the job's output.
        name: The job's name.
        clock: The time in seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        cloud: AwsClient,
        options: SagemakerOptions,
        trial: TrialRequest,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cloud, self.options, self.trial, self.name = cloud, options, trial, name
        self.clock, self.sleep = clock, sleep
        self.handle = name

    def wait(self, timeout_s: float) -> TrialResult:
        with self._errors_name_the_job("can't be watched any longer"):
            description, timed_out = self._watch(timeout_s + MARGIN_S)
            problem = self._download_output()
        self._remove_certificate()
        return self._result(description, problem, timed_out=timed_out)

    def _remove_certificate(self) -> None:
        """Where that is not permitted, what is left opens nothing: the processes that took it are gone."""
        if needs_certificate(self.trial.case, self.trial.roles):
            with suppress(AwsError):
                self.cloud.remove(certificate_object(self.options, self.name))

    def cancel(self) -> None:
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

    def _watch(self, limit_s: float) -> tuple[TrainingJobDescription, bool]:
        """Poll the job until it has ended, and stop it once its containers have run for ``limit_s``; queueing does not
        count. Returns the last description and whether the job was stopped."""
        pause_s, training_since, stopped_at = self.options.poll_s, None, None
        while True:
            description = self._describe_with_retries()
            now = self.clock()
            if description.over or (stopped_at is not None and now - stopped_at > STOP_TIMEOUT_S):
                return description, stopped_at is not None
            if description.containers_running and training_since is None:
                training_since, pause_s = now, self.options.poll_s
            if stopped_at is None and training_since is not None and now - training_since > limit_s:
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
        description = retrying(self.cloud.describe, self.name)
        if description is None:
            raise AwsError("ResourceNotFound", "there is no SageMaker job of this name")
        return description

    def _download_output(self) -> str | None:
        """Unpack the hosts' output into the trial's folder; returns why there is none."""
        archive = self.trial.folder / "output.tar.gz"
        if not self.cloud.fetch(output_archive(self.options, self.name), archive):
            return "there is no output.tar.gz"
        try:
            with archive.open("rb") as content:
                unpack(content, self.trial.folder)
        except BadArchive as problem:
            return f"its output.tar.gz {problem}"
        finally:
            archive.unlink()
        return None

    def _result(self, description: TrainingJobDescription, problem: str | None, *, timed_out: bool) -> TrialResult:
        case, folder = self.trial.case, self.trial.folder
        reason = f"SageMaker reports {description.failure}" if description.failure else problem or ""
        unreported = sorted(set(range(case.nodes)) - set(read_node_reports(folder)))
        names = host_names(case.nodes)
        lost = [LostNode(node, names[node], reason) for node in unreported] if reason and not timed_out else []
        tail = [
            *([f"SageMaker: {description.status}: {description.failure}"] if description.failure else []),
            *([problem] if problem else []),
        ]
        if unreported:
            tail += self._log_tail()
        result = gather_result(folder, case, lost, timed_out=timed_out, no_report_reason=reason, log_tail=tail)
        if description.failure and result.outcome == "ok":
            result = replace(result, outcome="failed", reason=reason, log_tail=tuple(tail))
        cost, unknown = cost_of(description.billable_s, description.instances, self.options.price_per_hour)
        return replace(result, cost=cost, cost_reason=unknown)

    def _log_tail(self) -> list[str]:
        try:
            return self.cloud.log_tail(self.name, LOG_LINES)
        except AwsError as problem:
            return [f"CloudWatch's log can't be read: {problem}"]


SITE = SagemakerSite()
