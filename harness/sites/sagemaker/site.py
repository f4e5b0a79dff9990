"""AWS SageMaker: a training job runs the trials of a round one after another, every node is one of its instances.

Cases and source go to S3, CreateTrainingJob starts the instances, and the records come back from S3. The containers run
:mod:`bench.node.sagemaker_entry`.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Sequence
from functools import cached_property

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate
from bench.plugins.backend import Options
from harness.errors import HarnessError
from harness.interrupts import interrupts_allowed
from harness.sites.base.contract import Job, Site, TrialRequest
from harness.sites.base.packed import (
    PackedJob,
    PackedTrial,
    Round,
    UnstartedPackedJob,
    batches_by,
    listed_trial,
    trial_list,
)
from harness.sites.base.remote import needs_certificate
from harness.sites.sagemaker.archives import pack_source
from harness.sites.sagemaker.client import AwsClient, AwsError
from harness.sites.sagemaker.job import SagemakerJob
from harness.sites.sagemaker.training_job import (
    SOURCE_ARCHIVE,
    TRIALS_FILE,
    SagemakerOptions,
    certificate_object,
    data_files,
    data_folder,
    job_folder,
    job_name,
    max_trials_s,
    missing_option,
    request_json,
    training_job_request,
    unsupported_reason,
    with_remote_data,
)


class SagemakerSite(Site):
    name = "sagemaker"
    summary = "AWS SageMaker training jobs, one a round; an instance is a node"
    options = SagemakerOptions
    requires = ("boto3",)
    extra = "sagemaker"
    chosen: SagemakerOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.cloud = AwsClient(self.chosen.region, self.chosen.profile)
        self._modules: tuple[str, ...] = ()
        """What ranks of the sweep import beside the frameworks."""
        self._reattached: dict[str, Round[PackedJob]] = {}
        """The jobs of an interrupted sweep, by name."""

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
        request = training_job_request([case], self.chosen, job_name(case), certified=certified)
        return {"training-job.json": request_json(request)}

    def warm(self, modules: tuple[str, ...]) -> None:
        self._modules = modules

    def batches(self, cases: Sequence[Case]) -> list[list[Case]]:
        return batches_by(cases, _shape, lambda case: case.timeout_s, max_trials_s(self.chosen))

    @property
    def submits_rounds(self) -> bool:
        return self.chosen.pack

    def start(self, trial: TrialRequest) -> Job:
        return self.submit_round([trial])[0]

    def submit_round(self, trials: Sequence[TrialRequest]) -> list[Job]:
        packed = Round(self._submit(trials), trials, self._submit)
        return [PackedTrial(packed, trial) for trial in trials]

    def _submit(self, trials: Sequence[TrialRequest]) -> PackedJob:
        cases = [trial.case for trial in trials]
        name = job_name(cases[0], secrets.token_hex(4))
        certified = any(needs_certificate(trial.case, trial.roles) for trial in trials)
        job = SagemakerJob(self.cloud, self.chosen, name, trials, certified=certified)
        try:
            with interrupts_allowed():
                self._upload_inputs(trials, name, certified=certified)
                request = training_job_request(cases, self.chosen, name, certified=certified, modules=self._modules)
                self.cloud.create(request)
        except AwsError as problem:
            if problem.concerns_account:
                raise HarnessError(
                    f"SageMaker accepts no jobs ({problem}); correct that, then `python -m harness sweep --resume`"
                ) from None
            return UnstartedPackedJob(name, f"SageMaker did not accept the job: {problem}")
        except BaseException:
            # The job may have been created already.
            job.cancel()
            raise
        return job

    def _upload_inputs(self, trials: Sequence[TrialRequest], name: str, *, certified: bool) -> None:
        folder, case = job_folder(self.chosen, name), trials[0].case
        text = trial_list([listed_trial(trial, with_remote_data(trial.case), fresh=False) for trial in trials])
        self.cloud.put(f"{folder}/input/case/{TRIALS_FILE}", text.encode())
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
        found = self._reattached.get(handle)
        if found is None:
            certified = needs_certificate(trial.case, trial.roles)
            job = SagemakerJob(self.cloud, self.chosen, handle, [trial], certified=certified, reattached=True)
            found = self._reattached[handle] = Round(job, [trial], self._submit)
        elif isinstance(found.job, SagemakerJob):
            found.job.trials.append(trial)
            found.trials.append(trial)
        return PackedTrial(found, trial)


def _shape(case: Case) -> tuple[Hashable, ...]:
    """What the cases of a job have in common: its instances, and its input."""
    return case.nodes, case.data.digest if case.data else None


SITE = SagemakerSite()
