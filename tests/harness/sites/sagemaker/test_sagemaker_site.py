"""What SageMaker is asked for, what is refused before it is asked, and what comes back."""

from __future__ import annotations

import json
import math
import re

import boto3
import pytest
from botocore.validate import ParamValidator

from bench.core.case import DataSource
from bench.host.installation import install_command
from harness.errors import UsageError
from harness.planning.options import option_combinations
from harness.sites.sagemaker.client import TrainingJobDescription
from harness.sites.sagemaker.costs import SharedBill, cost_of
from harness.sites.sagemaker.site import SagemakerSite
from harness.sites.sagemaker.training_job import (
    SagemakerOptions,
    data_files,
    job_name,
    stopping_condition,
    unsupported_reason,
    with_remote_data,
)
from tests.support.builders import make_case
from tests.support.training_jobs import CHOICES, sagemaker_case, sagemaker_options


def rendered(name: str, **changes) -> str:
    return SagemakerSite(sagemaker_options(name)).render(sagemaker_case(**changes), ())["training-job.json"]


@pytest.fixture
def keys(monkeypatch):
    """AWS's own settings, as variables; nothing of this machine's is read."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrSecretOfNobody",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    containers = [f"AWS_CONTAINER_CREDENTIALS_{kind}_URI" for kind in ("RELATIVE", "FULL")]
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", *containers):
        monkeypatch.delenv(name, raising=False)


# --- the request ------------------------------------------------------------------------------------------------------


def request(name: str, **changes) -> dict:
    return json.loads(rendered(name, **changes))


@pytest.mark.parametrize("name", CHOICES)
def test_a_node_is_an_instance_and_runs_the_same_command(name):
    document = request(name)
    assert document["ResourceConfig"]["InstanceCount"] == 2
    assert document["AlgorithmSpecification"]["ContainerArguments"][-8:] == [
        "bench.node.sagemaker_entry",
        *("--trials", "/opt/ml/input/data/case/trials.json", "--out", "/opt/ml/output/data"),
        *("--archives", document["CheckpointConfig"]["LocalPath"], "--preload="),
    ]


def channels(document: dict) -> dict[str, str]:
    """The S3 folder of each channel."""
    return {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
        for channel in document["InputDataConfig"]
    }


def test_script_mode_sends_our_source_and_image_mode_does_not():
    script = request("script")
    folder = f"s3://our-bucket/benchmarks/{script['TrainingJobName']}"
    assert channels(script) == {"case": f"{folder}/input/case/", "code": f"{folder}/input/code/"}
    assert script["AlgorithmSpecification"]["ContainerEntrypoint"] == ["sh"]
    image = request("image", data=DataSource(name="digits", digest="sha256:ab12", path="/somewhere"))
    assert set(channels(image)) == {"case", "data"}
    assert channels(image)["data"] == "s3://our-bucket/data/sha256-ab12/"
    assert image["AlgorithmSpecification"]["ContainerEntrypoint"] == ["python"]
    assert image["Environment"] == {"SCALING_INTERFACE": "eth0"}


def test_spot_vpc_encryption_and_tags_are_in_the_request():
    document = request("spot-vpc")
    assert document["EnableManagedSpotTraining"]
    assert document["EnableInterContainerTrafficEncryption"]
    assert document["StoppingCondition"] == {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 4200}
    assert document["VpcConfig"] == {"SecurityGroupIds": ["sg-0a1b"], "Subnets": ["subnet-0a1b", "subnet-2c3d"]}
    assert document["Tags"] == [{"Key": "team", "Value": "ml"}, {"Key": "cost centre", "Value": "42=b"}]
    assert document["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"
    assert not {"VpcConfig", "Tags", "Environment"} & set(request("script"))


def test_a_request_is_rendered_as_in_its_golden_file(golden):
    golden.check("sagemaker.json", rendered("script"))


def faults(shape, value, place="") -> list[str]:
    """What the API's model says of patterns, lengths and enumerations: botocore itself checks types and minima only."""
    found = []
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            found += faults(member, value[name], f"{place}.{name}") if name in value else []
    elif shape.type_name == "list":
        found += [f"{place}: too many"] if len(value) > shape.metadata.get("max", 10**9) else []
        for number, one in enumerate(value):
            found += faults(shape.member, one, f"{place}[{number}]")
    elif shape.type_name == "map":
        for name, one in value.items():
            found += faults(shape.key, name, f"{place} key") + faults(shape.value, one, f"{place}.{name}")
    elif shape.type_name == "string":
        limits = shape.metadata
        # Python's re knows no \p: the tags' characters.
        pattern = re.sub(r"\\p\{L\}\\p\{Z\}\\p\{N\}", r"\\w\\s", limits.get("pattern", ".*"))
        if not re.fullmatch(pattern, value) or len(value) > limits.get("max", 10**9):
            found.append(f"{place}: {value!r}")
        if value not in (limits.get("enum") or [value]):
            found.append(f"{place}: {value!r} is none of those known")
    return found


@pytest.mark.parametrize("name", CHOICES)
def test_the_service_s_own_model_accepts_it(name):
    model = boto3.client("sagemaker", region_name="eu-west-1").meta.service_model
    shape = model.operation_model("CreateTrainingJob").input_shape
    asked = json.loads(rendered(name))
    assert not ParamValidator().validate(asked, shape).has_errors()
    assert faults(shape, asked) == []
    assert faults(shape, {**asked, "TrainingJobName": "-x"}) == [".TrainingJobName: '-x'"], "the check itself checks"


def test_job_names_are_accepted_and_differ():
    long = sagemaker_case(workload="a_workload_with_a_long_name", backend="a_backend_with_a_name_that_is_longer_still")
    for name in (job_name(long), job_name(sagemaker_case(), "0123abcd"), job_name(sagemaker_case())):
        assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert job_name(sagemaker_case(seed=1)) != job_name(sagemaker_case(seed=2))
    assert job_name(sagemaker_case(), "0123abcd") != job_name(sagemaker_case(), "0123abce")


def test_data_goes_along_and_is_read_where_its_channel_lies(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "images.npy").write_bytes(b"1")
    (tmp_path / "labels.npy").write_bytes(b"2")
    folder = sagemaker_case(data=DataSource(name="digits", digest="d", path=str(tmp_path)))
    assert set(data_files(folder)) == {"part/images.npy", "labels.npy"}
    assert with_remote_data(folder).data == folder.data.model_copy(update={"path": "/opt/ml/input/data/data"})
    file = sagemaker_case(data=DataSource(name="labels", digest="d", path=str(tmp_path / "labels.npy")))
    assert set(data_files(file)) == {"labels.npy"}
    assert with_remote_data(file).data.path == "/opt/ml/input/data/data/labels.npy"
    assert (data_files(sagemaker_case()), with_remote_data(sagemaker_case())) == ({}, sagemaker_case())


def test_limits_leave_room_for_setting_up_and_for_spot_s_queue():
    assert stopping_condition([sagemaker_case(timeout_s=100.5)], sagemaker_options())["MaxRuntimeInSeconds"] > 101
    spot = stopping_condition([sagemaker_case()], sagemaker_options(spot=True))
    assert spot["MaxWaitTimeInSeconds"] > spot["MaxRuntimeInSeconds"]


@pytest.mark.parametrize(
    ("options", "trials"),
    [({}, [5]), ({"max_runtime_s": 500}, [2, 2, 1]), ({"spot": True, "max_wait_s": 1700}, [4, 1])],
)
def test_jobs_hold_as_many_trials_as_may_take_their_time_limits(options, trials):
    site = SagemakerSite(sagemaker_options(**options))
    batches = site.batches([sagemaker_case(timeout_s=200, seed=seed) for seed in range(5)])
    assert [len(batch) for batch in batches] == trials
    for batch in batches:
        limits = stopping_condition(batch, site.chosen)
        assert sum(case.timeout_s for case in batch) <= limits["MaxRuntimeInSeconds"]
        assert limits["MaxRuntimeInSeconds"] <= limits.get("MaxWaitTimeInSeconds", math.inf)


def test_trials_with_other_instances_or_other_data_have_jobs_of_their_own():
    data = DataSource(name="digits", digest="sha256:ab12", path="/somewhere")
    one = make_case(site="sagemaker", ranks=2, ranks_per_node=2)
    cases = [sagemaker_case(), one, sagemaker_case(seed=1), sagemaker_case(data=data)]
    batches = SagemakerSite(sagemaker_options()).batches(cases)
    assert [[cases.index(case) for case in batch] for batch in batches] == [[0, 2], [1], [3]]


# --- what is refused before anything is sent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"role": "trains"}, "role"),
        ({"role": "arn:aws:iam::123456789012:role/trains\n"}, "role"),
        ({"image": "x;reboot"}, "image"),
        ({"s3": "s3://our-bucket/../theirs"}, "s3"),
        ({"instance_type": "m5.large"}, "instance_type"),
        ({"instance_type": "ml.$(x).large"}, "instance_type"),
        ({"interface": "eth0; reboot"}, "interface"),
        ({"tags": "team"}, "tags"),
        ({"tags": "aws:team=ml"}, "AWS's own"),
        ({"tags": "a=1;a=2"}, "each key once"),
        ({"tags": f"{'k' * 129}=1"}, "up to 128"),
        ({"subnets": "subnet-1"}, "go together"),
        ({"spot": True, "max_runtime_s": 10, "max_wait_s": 5}, "shorter than max_runtime_s"),
        ({"max_wait_s": 5}, "for spot only"),
        ({"price_per_hour": -1}, "price_per_hour"),
    ],
)
def test_options_are_checked_by_name(options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        option_combinations("sagemaker", SagemakerOptions, {name: (value,) for name, value in options.items()})


@pytest.mark.parametrize(
    ("case", "options", "said"),
    [
        (sagemaker_case(), {"role": ""}, "sagemaker.role is not set: --set sagemaker.role="),
        (sagemaker_case(), {"s3": ""}, "sagemaker.s3 is not set"),
        (sagemaker_case(net="1gbit"), {}, "leave --net out"),
        (sagemaker_case(device="cuda"), {}, "ml.m5.xlarge has no GPU"),
        (sagemaker_case(timeout_s=900), {"max_runtime_s": 600}, "ends a trial before --timeout 900"),
        (sagemaker_case(), {"spot": True, "max_wait_s": 600}, "is shorter than a job may run"),
    ],
)
def test_what_can_t_work_is_skipped_with_the_remedy(case, options, said):
    assert said in (unsupported_reason(case, sagemaker_options(**options)) or "")


def reason_against(options: SagemakerOptions, **changes) -> str:
    return SagemakerSite(options).unavailable_reason(sagemaker_case(**changes)) or ""


def test_what_works_is_not_skipped(keys):
    assert reason_against(sagemaker_options()) == ""
    assert reason_against(sagemaker_options("spot-vpc"), device="cuda", transport="nccl") == ""


def test_without_region_or_credentials_the_remedy_is_named(keys, monkeypatch):
    assert "--set sagemaker.region=" in reason_against(sagemaker_options(region=""))
    assert "aws configure" in reason_against(sagemaker_options(profile="nobody"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials: run `aws configure`" in reason_against(sagemaker_options())


def test_without_its_client_the_site_names_the_extra_to_install():
    class WithoutClient(SagemakerSite):
        requires = ("no_such_client",)

    assert WithoutClient(sagemaker_options()).unavailable_reason(sagemaker_case()) == (
        f"no_such_client not installed: {install_command('sagemaker')}"
    )


# --- costs ------------------------------------------------------------------------------------------------------------


def job_that(status: str = "InProgress", **changes) -> TrainingJobDescription:
    facts = {"status": status, "detail": "", "reason": None, "billable_s": None, "instances": 2, "began_at_s": 1000.0}
    if status != "InProgress":
        facts |= {"ended_at_s": 1100.0, "billable_s": 100}
    return TrainingJobDescription(**{**facts, **changes})


def shares(bill: SharedBill, *ends_s: float, **changes) -> list:
    """The costs of trials that end then and, the last one, with its job."""
    return [*(bill.share(job_that(), end_s) for end_s in ends_s), bill.share(job_that("Completed", **changes), None)]


def test_the_shares_of_a_job_s_trials_add_up_to_its_bill():
    costs = shares(SharedBill(3600.0, spot=False), 1060.0, 1080.0)
    assert costs == [(pytest.approx(120), None), (pytest.approx(40), None), (pytest.approx(40), None)]
    assert shares(SharedBill(3600.0, spot=False)) == [(pytest.approx(200), None)]


def test_a_share_that_is_not_known_has_a_reason():
    spot = shares(SharedBill(3600.0, spot=True), 1060.0, billable_s=30)
    assert spot == [
        (None, "what spot instances are billed is known when their job has ended"),
        (pytest.approx(24), None),
    ]
    (taken, rest) = shares(SharedBill(3600.0, spot=False, is_known=False), 1060.0)
    assert taken == (None, "an interrupted sweep has taken the trials before it, of the same job")
    assert rest == (pytest.approx(80), None)
    no_price = (None, "no price is set: --set sagemaker.price_per_hour=PRICE")
    assert shares(SharedBill(None, spot=True, is_known=False), 1060.0) == [no_price, no_price]
    unknown = (None, "SageMaker did not report the billable seconds")
    assert shares(SharedBill(1.0, spot=False), 1060.0, billable_s=None)[1] == unknown
    assert SharedBill(1.0, spot=False).share(job_that(began_at_s=None), 1060.0) == unknown


def test_costs_are_billed_seconds_of_every_instance():
    assert cost_of(90, 4, 3.6) == (pytest.approx(0.36), None)
    assert cost_of(90, 4, None) == (None, "no price is set: --set sagemaker.price_per_hour=PRICE")
    assert cost_of(None, 4, 3.6) == (None, "SageMaker did not report the billable seconds")
