"""A training job from outside: what AWS says, what is made of it, and what is never told."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from bench.core.exit_report import ExitReport, NodeReport
from bench.host.machine import read_node_facts
from bench.plugins.registry import load_backend
from harness.errors import HarnessError
from harness.sites.base.contract import TrialRequest
from harness.sites.base.packed import PackedTrial, Round
from harness.sites.sagemaker.client import AwsClient, AwsError
from harness.sites.sagemaker.job import SagemakerJob
from harness.sites.sagemaker.site import SagemakerSite
from harness.sites.sagemaker.training_job import training_job_request
from tests.support.builders import make_record
from tests.support.clocks import FakeClock
from tests.support.training_jobs import archive_of, sagemaker_case, sagemaker_options


@pytest.fixture(scope="module")
def account() -> AwsClient:
    """Its clients are made once: the model of the API is large."""
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        variables.setenv("AWS_SECRET_ACCESS_KEY", "wJalrSecretOfNobody")
        cloud = AwsClient("eu-west-1", objects=Bucket())
        assert cloud._jobs
        assert cloud._logs
    return cloud


@pytest.fixture
def cloud(account):
    account.bucket = account._objects
    account.bucket.objects.clear()
    with Stubber(account._jobs) as account.jobs, Stubber(account._logs) as account.logs:
        yield account


def test_the_certificate_of_several_hosts_is_in_their_input_and_removed_with_the_job(cloud, tmp_path):
    case = sagemaker_case(backend="dask", transport="tasks")
    trial = TrialRequest(case, load_backend("dask").launch(case), tmp_path)
    site = SagemakerSite(sagemaker_options())
    site.cloud = cloud
    site._upload_inputs([trial], "job", certified=True)
    (name,) = [name for name in cloud.bucket.objects if name.endswith(".pem")]
    assert name.endswith("/job/input/case/certificate.pem")
    assert b"PRIVATE KEY" in cloud.bucket.objects[name]
    request = training_job_request([case], site.chosen, "job", certified=True)
    arguments = request["AlgorithmSpecification"]["ContainerArguments"]
    assert arguments[-3:] == ["--certificate", "/opt/ml/input/data/case/certificate.pem", "--preload="]
    assert "PRIVATE" not in str(request)
    cloud.jobs.add_response("stop_training_job", {})
    SagemakerJob(cloud, site.chosen, "job", [trial], certified=True).cancel()
    assert not [name for name in cloud.bucket.objects if name.endswith(".pem")]


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
        cloud.create(training_job_request([sagemaker_case()], sagemaker_options(), "job"))
    assert said in str(told.value)
    assert str(told.value).startswith(code)
    assert len(str(told.value)) < 400
    for secret in ("AKIA", "abc", "FwoGZ", "c0ffee", "\n", "wJalr"):
        assert secret not in str(told.value)


def test_an_error_of_the_client_itself_is_reported_alike(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for kind in ("RELATIVE", "FULL"):
        monkeypatch.delenv(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI", raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AwsError, match="NoCredentialsError: Unable to locate credentials"):
        AwsClient("eu-west-1").create(training_job_request([sagemaker_case()], sagemaker_options(), "job"))


def test_stopping_asks_for_it_and_a_job_that_has_ended_is_left_alone(cloud):
    cloud.jobs.add_response("stop_training_job", {}, {"TrainingJobName": "job"})
    cloud.stop("job")
    cloud.jobs.add_client_error("stop_training_job", "ValidationException", "is in Completed state")
    cloud.stop("job")
    cloud.jobs.add_client_error("stop_training_job", "AccessDeniedException", "no")
    with pytest.raises(AwsError, match="AccessDeniedException: no"):
        cloud.stop("job")
    cloud.jobs.assert_no_pending_responses()


def test_logs_are_told_by_host(cloud):
    cloud.logs.add_response("describe_log_streams", {"logStreams": [{"logStreamName": "job/algo-2-1700000000"}]})
    cloud.logs.add_response("get_log_events", {"events": [{"message": "no module named torch\n"}]})
    assert cloud.log_tail("job", 5) == ["algo-2: no module named torch"]


# --- a job under way --------------------------------------------------------------------------------------------------


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Bucket:
    """An S3 client over one bucket: objects by their keys."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written_at_s = 0.0

    def put_object(self, **request) -> None:
        assert request["Bucket"] == "our-bucket"
        self.objects[request["Key"]] = request["Body"]

    def delete_object(self, **request) -> None:
        assert request["Bucket"] == "our-bucket"
        self.objects.pop(request["Key"])

    def head_object(self, **request) -> dict:
        if request["Key"] not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        return {"LastModified": at(self.written_at_s)}

    def download_file(self, bucket: str, key: str, path: str) -> None:
        assert bucket == "our-bucket"
        if key not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        Path(path).write_bytes(self.objects[key])


def left_by(*nodes: int, folder: str = "trial/") -> io.BytesIO:
    ends = [
        NodeReport(facts=read_node_facts(node), exit_report=ExitReport(timed_out=False, timeout_s=1)) for node in nodes
    ]
    records = [make_record(rank, 4) for node in nodes for rank in (2 * node, 2 * node + 1)]
    return archive_of(
        *((f"{folder}{end.file}", end.model_dump_json().encode()) for end in ends),
        *((f"{folder}record-{one.rank}.json", one.model_dump_json().encode()) for one in records),
    )


@pytest.fixture
def job_of(cloud, tmp_path) -> Callable[..., PackedTrial]:
    def make(archive: io.BytesIO | None, trials=("trial",), reattached=False, **options) -> PackedTrial:
        """The first of its trials."""
        if archive is not None:
            cloud.bucket.objects["benchmarks/job/output/output.tar.gz"] = archive.getvalue()
        clock = FakeClock()
        waiting = [TrialRequest(sagemaker_case(), (), tmp_path / name) for name in trials]
        for trial in waiting:
            trial.folder.mkdir(exist_ok=True)
        how = {"reattached": reattached, "clock": clock, "sleep": clock.sleep}
        job = SagemakerJob(cloud, sagemaker_options(**options), "job", waiting, **how)

        def submit(trials):
            raise AssertionError(f"{len(trials)} trials are to run in another job")

        return PackedTrial(Round(job, waiting, submit), waiting[0])

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
    assert ending.reason.startswith(f"node 1 (algo-2) is gone: SageMaker reports {reason}")
    assert "CloudWatch's log can't be read: AccessDeniedException: not permitted" in ending.log_tail
    assert (ending.cost, ending.cost_reason) == (None, "no price is set: --set sagemaker.price_per_hour=PRICE")


@pytest.mark.parametrize("detail", ["MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted"])
def test_a_job_that_sagemaker_stopped_says_why(cloud, job_of, detail):
    tell(cloud, ("Stopped", detail))
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = job_of(None).wait(1)
    assert ending.outcome == "failed"
    assert f"SageMaker reports {detail}" in (ending.reason or "")


def test_a_failed_job_is_never_a_good_trial(cloud, job_of):
    tell(cloud, ("Failed", "Failed"), FailureReason="ClientError: upload failed")
    ending = job_of(left_by(0, 1)).wait(1)
    assert (ending.outcome, ending.reason) == ("failed", "SageMaker reports ClientError: upload failed")


def test_a_job_that_runs_too_long_is_stopped_and_its_leavings_awaited(cloud, job_of):
    tell(cloud, *[("InProgress", "Training")] * 6)
    cloud.jobs.add_response("stop_training_job", {}, {"TrainingJobName": "job"})
    tell(cloud, ("Stopping", "Stopping"), ("Stopped", "Stopped"), BillableTimeInSeconds=10)
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = job_of(None, price_per_hour=1.0).wait(timeout_s=1)
    assert ending.outcome == "timeout"
    assert ending.cost == pytest.approx(2 * 10 / 3600)
    cloud.jobs.assert_no_pending_responses()


def test_a_throttled_query_is_repeated_and_a_refused_one_is_not(cloud, job_of):
    for _ in range(3):
        cloud.jobs.add_client_error("describe_training_job", "ThrottlingException", "Rate exceeded")
    tell(cloud, ("Completed", "Completed"), BillableTimeInSeconds=1)
    job = job_of(left_by(0, 1))
    assert job.wait(1).outcome == "ok"
    assert job.round.job.clock() == pytest.approx(3 * 6 * sagemaker_options().poll_s), (
        "three pauses of the longest interval"
    )
    cloud.jobs.add_client_error("describe_training_job", "AccessDeniedException", "no")
    with pytest.raises(HarnessError, match=r"job job can't be watched any longer \(AccessDeniedException: no\)"):
        job_of(None).wait(1)


def test_a_job_that_can_t_be_stopped_is_named(cloud, job_of):
    cloud.jobs.add_client_error("stop_training_job", "ExpiredTokenException", "a token")
    with pytest.raises(HarnessError, match=r"job job could not be stopped .*aws sagemaker stop-training-job"):
        job_of(None).cancel()


def test_an_interrupted_sweep_finds_its_jobs_again(cloud, tmp_path):
    site, asked = SagemakerSite(sagemaker_options()), TrialRequest(sagemaker_case(), (), tmp_path)
    site.cloud = cloud
    for status, found in (("InProgress", True), ("Completed", True), ("Failed", True), ("Stopped", False)):
        tell(cloud, (status, status if status != "InProgress" else "Training"))
        assert (site.reattach(asked, "job") is not None) == found, status
    cloud.jobs.add_client_error("describe_training_job", "ValidationException", "Requested resource not found.")
    assert site.reattach(asked, "job") is None


def test_a_refused_job_is_a_failed_trial_with_the_reason(cloud, tmp_path):
    site = SagemakerSite(sagemaker_options())
    site.cloud = cloud
    cloud.jobs.add_client_error("create_training_job", "ResourceLimitExceeded", "ml.m5.xlarge: 0 instances")
    asked = TrialRequest(sagemaker_case(), (), tmp_path)
    ending = site.start(asked).wait(1)
    assert ending.reason == "SageMaker did not accept the job: ResourceLimitExceeded: ml.m5.xlarge: 0 instances"
    assert {key.rpartition("/")[2] for key in cloud.bucket.objects} == {"trials.json", "sourcedir.tar.gz"}
    cloud.jobs.add_client_error("create_training_job", "ExpiredTokenException", "a token")
    with pytest.raises(HarnessError, match=r"\(ExpiredTokenException\); correct that, then .*--resume"):
        site.start(asked)


# --- a job of several trials ------------------------------------------------------------------------------------------


def arrives(cloud, trial: str, at_s: float = 0.0, nodes=(0, 1)) -> None:
    """What the hosts left of a trial is on S3."""
    cloud.bucket.written_at_s = at_s
    for node in nodes:
        cloud.bucket.objects[f"benchmarks/job/checkpoints/{trial}-node-{node}.tar.gz"] = left_by(
            node, folder=""
        ).getvalue()


def following(trial: PackedTrial, number: int) -> PackedTrial:
    return PackedTrial(trial.round, trial.round.trials[number])


def test_a_trial_s_result_is_there_while_its_job_runs_on_and_all_shares_are_the_bill(cloud, job_of):
    output = archive_of()
    first = job_of(output, trials=("a", "b"), price_per_hour=3600.0)
    second = following(first, 1)
    arrives(cloud, "a", at_s=140.0)
    tell(cloud, ("InProgress", "Starting"), ("InProgress", "Training"), TrainingStartTime=at(100))
    ending = first.wait(1)
    assert (ending.outcome, [record.rank for record in ending.ranks]) == ("ok", [0, 1, 2, 3])
    assert ending.cost == pytest.approx(2 * 40)
    cloud.bucket.objects["benchmarks/job/output/output.tar.gz"] = left_by(0, 1, folder="b/").getvalue()
    times = {"TrainingStartTime": at(100), "TrainingEndTime": at(150), "BillableTimeInSeconds": 50}
    tell(cloud, ("InProgress", "Training"), ("Completed", "Completed"), **times)
    last = second.wait(1)
    assert (last.outcome, last.cost) == ("ok", pytest.approx(2 * 10))


def test_a_trial_of_which_a_host_has_not_reported_yet_is_waited_for(cloud, job_of):
    first = job_of(None, trials=("a", "b"))
    arrives(cloud, "a", nodes=(0,))
    tell(cloud, *[("InProgress", "Training")] * 2, ("Failed", "Failed"), FailureReason="AlgorithmError: no")
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = first.wait(300)
    assert "(algo-1) is gone: SageMaker reports AlgorithmError: no" in ending.reason
    with pytest.raises(AssertionError, match="1 trials are to run in another job"):
        following(first, 0).wait(1)


def test_the_trials_of_a_job_that_ended_while_nobody_looked_are_all_there(cloud, job_of):
    first = job_of(left_by(0, 1, folder="c/"), trials=("a", "b", "c"), reattached=True)
    jobs = [first, following(first, 1), following(first, 2)]
    arrives(cloud, "a")
    arrives(cloud, "b")
    tell(cloud, *[("Completed", "Completed")] * 3)
    assert [job.wait(1).outcome for job in jobs] == ["ok", "ok", "ok"]


def test_a_trial_that_an_ended_job_never_began_runs_in_another(cloud, job_of):
    first = job_of(archive_of(), trials=("b", "c"), reattached=True)
    tell(cloud, ("Failed", "Failed"), FailureReason="AlgorithmError: a failed")
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    with pytest.raises(AssertionError, match="2 trials are to run in another job"):
        first.wait(1)


def test_instances_that_start_again_are_stopped_since_they_would_run_trials_twice(cloud, job_of):
    first = job_of(None, trials=("a", "b"), spot=True)
    tell(cloud, ("InProgress", "Training"), ("InProgress", "Interrupted"))
    cloud.jobs.add_response("stop_training_job", {}, {"TrainingJobName": "job"})
    tell(cloud, ("Stopped", "Stopped"))
    cloud.logs.add_response("describe_log_streams", {"logStreams": []})
    ending = first.wait(300)
    assert ending.outcome == "failed"
    assert "since they were interrupted" in ending.reason
