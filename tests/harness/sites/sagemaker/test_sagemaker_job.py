"""A training job from outside: what AWS says, what is made of it, and what is never told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber

from bench.core.exit_report import ExitReport, NodeReport
from bench.host.machine import read_node_facts
from harness.errors import HarnessError
from harness.sites.base.contract import TrialRequest
from harness.sites.sagemaker.client import AwsClient, AwsError
from harness.sites.sagemaker.site import SagemakerJob, SagemakerSite
from harness.sites.sagemaker.training_job import training_job_request
from tests.support.builders import make_record
from tests.support.training_jobs import archive_of, chosen, there


@pytest.fixture(scope="module")
def account() -> AwsClient:
    """Its clients are made once: the model of the API is large."""
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        variables.setenv("AWS_SECRET_ACCESS_KEY", "wJalrSecretOfNobody")
        cloud = AwsClient("eu-west-1")
        assert cloud._jobs
        assert cloud._logs
    return cloud


@pytest.fixture
def cloud(account):
    with Stubber(account._jobs) as account.jobs, Stubber(account._logs) as account.logs:
        yield account


def described(status: str, detail: str, **more) -> dict:
    return {
        "TrainingJobName": "job",
        "TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://our-bucket/m"},
        "TrainingJobStatus": status,
        "SecondaryStatus": detail,
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceCount": 2, "VolumeSizeInGB": 30},
        "StoppingCondition": {},
        "CreationTime": 0,
        **more,
    }


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("AccessDeniedException", "User: x is not authorized\n to perform: y", "not authorized to perform: y"),
        ("SignatureDoesNotMatch", "Credential=AKIAIOSFODNN7EXAMPLE/2026 signature=abc", "SignatureDoesNotMatch"),
        ("ExpiredTokenException", "token FwoGZXIvYXdz", "ExpiredTokenException"),
        ("ResourceLimitExceeded", "by AKIAIOSFODNN7EXAMPLE " + "long " * 200, "by (a key) long"),
    ],
)
def test_what_aws_says_is_told_in_one_line_without_secrets(cloud, code, message, said):
    cloud.jobs.add_client_error("create_training_job", code, message, response_meta={"RequestId": "c0ffee"})
    with pytest.raises(AwsError) as told:
        cloud.create(training_job_request(there(), chosen(), "job"))
    assert said in str(told.value)
    assert str(told.value).startswith(code)
    assert len(str(told.value)) < 400
    for secret in ("AKIA", "abc", "FwoGZ", "c0ffee", "\n", "wJalr"):
        assert secret not in str(told.value)


def test_a_problem_before_aws_answers_is_told_alike(cloud, monkeypatch):
    def nobody(**_):
        raise NoCredentialsError

    monkeypatch.setattr(cloud._jobs, "create_training_job", nobody)
    with pytest.raises(AwsError, match="NoCredentialsError: Unable to locate credentials"):
        cloud.create({})


def test_stopping_asks_for_it_and_a_job_that_has_ended_is_left_alone(cloud):
    cloud.jobs.add_response("stop_training_job", {}, {"TrainingJobName": "job"})
    cloud.stop("job")
    cloud.jobs.add_client_error("stop_training_job", "ValidationException", "is in Completed state")
    cloud.stop("job")
    cloud.jobs.add_client_error("stop_training_job", "AccessDeniedException", "no")
    with pytest.raises(AwsError):
        cloud.stop("job")
    cloud.jobs.assert_no_pending_responses()


def test_logs_are_told_by_host(cloud):
    cloud.logs.add_response("describe_log_streams", {"logStreams": [{"logStreamName": "job/algo-2-1700000000"}]})
    cloud.logs.add_response("get_log_events", {"events": [{"message": "no module named torch\n"}]})
    assert cloud.log_tail("job", 5) == ["algo-2: no module named torch"]


# --- a job under way --------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Bucket:
    """What S3 would hold of a job's output."""

    def __init__(self, archive: io.BytesIO | None) -> None:
        self.archive = archive

    def fetch(self, place: str, path: Path) -> bool:
        assert place.endswith("/job/output/output.tar.gz")
        if self.archive is not None:
            path.write_bytes(self.archive.getvalue())
        return self.archive is not None


def left_by(*nodes: int) -> io.BytesIO:
    ends = [
        NodeReport(facts=read_node_facts(node), exit_report=ExitReport(timed_out=False, timeout_s=1)) for node in nodes
    ]
    records = [make_record(rank, 4) for node in nodes for rank in (2 * node, 2 * node + 1)]
    return archive_of(
        *((end.file, end.model_dump_json().encode()) for end in ends),
        *((f"record-{one.rank}.json", one.model_dump_json().encode()) for one in records),
    )


@pytest.fixture
def job_of(cloud, tmp_path, monkeypatch):
    def make(archive: io.BytesIO | None, **options) -> SagemakerJob:
        monkeypatch.setattr(cloud, "fetch", Bucket(archive).fetch)
        monkeypatch.setattr("harness.sites.sagemaker.site.time", Clock())
        return SagemakerJob(cloud, chosen(**options), TrialRequest(there(), (), tmp_path), "job")

    return make


def tell(cloud, *statuses: tuple[str, str], **more) -> None:
    for number, (status, detail) in enumerate(statuses):
        last = more if number == len(statuses) - 1 else {}
        cloud.jobs.add_response("describe_training_job", described(status, detail, **last))


def test_queueing_is_no_running_and_the_end_brings_records_and_costs(cloud, job_of):
    queued = [("InProgress", detail) for detail in ("Starting", *["Pending"] * 20, "Downloading")]
    tell(cloud, *queued, ("InProgress", "Training"), ("Completed", "Completed"), BillableTimeInSeconds=120)
    ending = job_of(left_by(0, 1), price_per_hour=6.0).wait(timeout_s=1)
    assert (ending.outcome, ending.cost, ending.cost_reason) == ("ok", pytest.approx(0.4), None)
    assert [record.rank for record in ending.ranks] == [0, 1, 2, 3]
    assert [facts.node for facts in ending.nodes] == [0, 1]
    assert not ending.log_tail


def test_a_host_without_a_word_is_named_with_sagemaker_s_reason(cloud, job_of):
    reason = "InternalServerError: We encountered an internal error."
    tell(cloud, ("Failed", "Failed"), FailureReason=reason)
    cloud.logs.add_client_error("describe_log_streams", "AccessDeniedException", "not permitted")
    ending = job_of(left_by(0)).wait(1)
    assert ending.outcome == "failed"
    assert ending.reason is not None
    assert ending.reason.startswith(f"node 1 (algo-2) is gone: SageMaker says {reason}")
    assert "CloudWatch's log is not to be had: AccessDeniedException: not permitted" in ending.log_tail
    assert (ending.cost, ending.cost_reason) == (None, "no price was given: --set sagemaker.price_per_hour=PRICE")


@pytest.mark.parametrize("detail", ["MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted"])
def test_a_job_that_sagemaker_stopped_says_why(cloud, job_of, detail):
    tell(cloud, ("Stopped", detail))
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = job_of(None).wait(1)
    assert ending.outcome == "failed"
    assert f"SageMaker says {detail}" in (ending.reason or "")


def test_a_failed_job_is_never_a_good_trial(cloud, job_of):
    tell(cloud, ("Failed", "Failed"), FailureReason="ClientError: upload failed")
    ending = job_of(left_by(0, 1)).wait(1)
    assert (ending.outcome, ending.reason) == ("failed", "SageMaker says ClientError: upload failed")


def test_a_job_that_runs_too_long_is_stopped_and_its_leavings_awaited(cloud, job_of):
    tell(cloud, *[("InProgress", "Training")] * 6)
    cloud.jobs.add_response("stop_training_job", {}, {"TrainingJobName": "job"})
    tell(cloud, ("Stopping", "Stopping"), ("Stopped", "Stopped"), BillableTimeInSeconds=10)
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = job_of(None, price_per_hour=1.0).wait(timeout_s=1)
    assert ending.outcome == "timeout"
    assert ending.cost == pytest.approx(2 * 10 / 3600)
    cloud.jobs.assert_no_pending_responses()


def test_a_job_that_can_t_be_stopped_is_named(cloud, job_of):
    cloud.jobs.add_client_error("stop_training_job", "ExpiredTokenException", "a token")
    with pytest.raises(HarnessError, match=r"job job could not be stopped .*aws sagemaker stop-training-job"):
        job_of(None).cancel()


def test_an_interrupted_sweep_finds_its_jobs_again(cloud, tmp_path):
    site, asked = SagemakerSite(chosen()), TrialRequest(there(), (), tmp_path)
    site.cloud = cloud
    for status, found in (("InProgress", True), ("Completed", True), ("Failed", True), ("Stopped", False)):
        tell(cloud, (status, status if status != "InProgress" else "Training"))
        assert (site.reattach(asked, "job") is not None) == found, status
    cloud.jobs.add_client_error("describe_training_job", "ValidationException", "Requested resource not found.")
    assert site.reattach(asked, "job") is None


def test_a_refused_job_is_a_failed_trial_with_the_reason(cloud, tmp_path, monkeypatch):
    site = SagemakerSite(chosen())
    site.cloud = cloud
    monkeypatch.setattr(cloud, "put", lambda place, content: None)
    cloud.jobs.add_client_error("create_training_job", "ResourceLimitExceeded", "ml.m5.xlarge: 0 instances")
    asked = TrialRequest(there(), (), tmp_path)
    ending = site.start(asked).wait(1)
    assert ending.reason == "SageMaker did not take the job: ResourceLimitExceeded: ml.m5.xlarge: 0 instances"
    cloud.jobs.add_client_error("create_training_job", "ExpiredTokenException", "a token")
    with pytest.raises(HarnessError, match=r"\(ExpiredTokenException\); mend that, then .*--resume"):
        site.start(asked)
