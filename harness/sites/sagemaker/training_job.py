"""Trials as a SageMaker training job: options, name and CreateTrainingJob request (pure)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from bench.core.case import Case
from bench.host.certificate import CERTIFICATE_FILE
from harness.sites.base.contract import SiteOptions
from harness.sites.base.packed import preload_arguments

ML_FOLDER = "/opt/ml"
"""Where SageMaker mounts a container's input, and collects its output."""
CASE_FOLDER = f"{ML_FOLDER}/input/data/case"
DATA_FOLDER = f"{ML_FOLDER}/input/data/data"
SOURCE_ARCHIVE, TRIALS_FILE = "sourcedir.tar.gz", "trials.json"
CHECKPOINTS_FOLDER = f"{ML_FOLDER}/checkpoints"
"""What is written there is on S3 soon, while the job runs."""
NODE_COMMAND = (
    *("python", "-m", "bench.node.sagemaker_entry"),
    *("--trials", f"{CASE_FOLDER}/{TRIALS_FILE}", "--out", f"{ML_FOLDER}/output/data"),
    *("--archives", CHECKPOINTS_FOLDER),
)
CERTIFICATE_ARGUMENTS = ("--certificate", f"{CASE_FOLDER}/{CERTIFICATE_FILE}")
"""Of the node command, where the hosts need a certificate in common."""

# Script mode: our source is unpacked in an image that does not contain it. Most images have the packages that it needs;
# pip runs only where one is missing, since its time is billed. An argument may have 256 characters.
UNPACK_AND_RUN = (
    f"mkdir -p {ML_FOLDER}/code && cd {ML_FOLDER}/code && tar -xzf "
    f"{ML_FOLDER}/input/data/code/{SOURCE_ARCHIVE} --no-same-owner"
    ' && (python -c "import bench.node.agent, pynvml" || python -m pip install -q -r requirements.txt) && exec "$@"'
)

MAX_NAME_LENGTH = 63
SETUP_ALLOWANCE_S = 900
"""How long fetching the image and the channels may take, which SageMaker counts as running time."""
SPOT_QUEUE_ALLOWANCE_S = 3600
DEFAULT_RUNTIME_QUOTA_S = 432_000
"""How long a training job may run in an account that has asked for no more."""

TAG_PATTERN = r"[\p{L}\p{Z}\p{N}_.:/+@-]+=[\p{L}\p{Z}\p{N}_.:/=+@-]*"
MAX_TAGS, MAX_TAG_KEY_LENGTH, MAX_TAG_VALUE_LENGTH = 50, 128, 256
ShortText = Annotated[str, StringConstraints(max_length=1024)]


class SagemakerOptions(SiteOptions):
    role: ShortText = Field(
        "",
        pattern=r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+)?$",
        description="ARN of the IAM role of the jobs",
    )
    image: ShortText = Field(
        "",
        max_length=255,
        pattern=r"^([0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+"
        r"(:[A-Za-z0-9_.-]+)?(@sha256:[0-9a-f]{64})?)?$",
        description="ECR URI of the image: an AWS framework image with its version in the tag, or one of your own",
    )
    mode: Literal["script", "image"] = Field(
        "script", description="script: our source is sent to the jobs; image: the image contains it"
    )
    instance_type: ShortText = Field(
        "ml.m5.xlarge", pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", description="type of the instances; one for each node"
    )
    volume_gb: int = Field(30, ge=1, le=16384, description="disk of each instance, in GB")
    s3: ShortText = Field(
        "",
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?)?$",
        description="folder of inputs and results: s3://BUCKET/PREFIX",
    )
    region: ShortText = Field(
        "",
        pattern=r"^([a-z]{2}(-[a-z0-9]+)+-[0-9])?$",
        description="default: as AWS's own configuration says",
    )
    profile: ShortText = Field(
        "",
        pattern=r"^([A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)?$",
        description="profile of AWS's own configuration, which has the credentials",
    )
    spot: bool = Field(False, description="managed spot instances: cheaper, may be interrupted")
    max_runtime_s: int | None = Field(
        None,
        ge=1,
        le=2_419_200,
        description="SageMaker stops a job after this time; default: the time limits of its trials and 15 min",
    )
    max_wait_s: int | None = Field(
        None,
        ge=1,
        le=2_419_200,
        description="with spot: waiting and running together; default: max_runtime_s and an hour",
    )
    tags: str = Field(
        "",
        pattern=rf"^({TAG_PATTERN}(;{TAG_PATTERN})*)?$",
        max_length=4096,
        description="tags of the jobs: key=value;key=value",
    )
    subnets: ShortText = Field(
        "", pattern=r"^(subnet-[0-9a-f]+(;subnet-[0-9a-f]+){0,15})?$", description="of a VPC: subnet-a;subnet-b"
    )
    security_groups: ShortText = Field(
        "", pattern=r"^(sg-[0-9a-f]+(;sg-[0-9a-f]+){0,4})?$", description="of the VPC: sg-a;sg-b"
    )
    encrypt_traffic: bool = Field(False, description="encrypt the traffic between instances, which slows it down")
    interface: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$",
        description="network interface; default: the one that SageMaker names",
    )
    price_per_hour: float | None = Field(
        None, ge=0, description="of one instance, as AWS lists it for training in the region; for costs"
    )
    pack: bool = Field(True, description="one job for the trials of a round on as many instances")
    poll_s: float = Field(5.0, ge=0.05, le=300, description="first polling interval, in seconds")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("subnets and security_groups go together: a VPC needs both")
        if self.max_wait_s is not None and not self.spot:
            raise ValueError("max_wait_s is for spot only: add spot=true, or leave it out")
        if self.max_wait_s is not None and self.max_wait_s < (self.max_runtime_s or 0):
            raise ValueError(f"max_wait_s = {self.max_wait_s} is shorter than max_runtime_s = {self.max_runtime_s}")
        tags = tags_of(self)
        if any(key.lower().startswith("aws:") for key, _ in tags):
            raise ValueError("tags: keys that begin with aws: are AWS's own; choose others")
        if len({key for key, _ in tags}) < len(tags) or len(tags) > MAX_TAGS:
            raise ValueError(f"tags: up to {MAX_TAGS}, and each key once")
        if any(len(key) > MAX_TAG_KEY_LENGTH or len(value) > MAX_TAG_VALUE_LENGTH for key, value in tags):
            raise ValueError(
                f"tags: keys have up to {MAX_TAG_KEY_LENGTH} characters, values up to {MAX_TAG_VALUE_LENGTH}"
            )
        return self


def tags_of(options: SagemakerOptions) -> list[tuple[str, str]]:
    """The keys and values of ``tags``."""
    pairs = [tag.partition("=") for tag in options.tags.split(";") if tag]
    return [(key, value) for key, _, value in pairs]


def missing_option(options: SagemakerOptions) -> str | None:
    """Which option has no default and was not set, with how to set it."""
    examples = {"role": "arn:aws:iam::123456789012:role/NAME", "image": "ECR_URI", "s3": "s3://BUCKET/PREFIX"}
    name = next((name for name in examples if not getattr(options, name)), None)
    return f"sagemaker.{name} is not set: --set sagemaker.{name}={examples[name]}" if name else None


def unsupported_reason(case: Case, options: SagemakerOptions) -> str | None:
    """Why a case can't be a training job with these options, with the remedy, or ``None``: what neither the API's model
    nor the types of the options express."""
    if missing := missing_option(options):
        return missing
    if case.net is not None:
        return "AWS's network can't be shaped: leave --net out"
    if case.device == "cuda" and not re.match(r"ml\.[gp]\d", options.instance_type):
        return f"{options.instance_type} has no GPU: --set sagemaker.instance_type=ml.g5.xlarge, or --device cpu"
    limits = stopping_condition([case], options)
    if limits["MaxRuntimeInSeconds"] < case.timeout_s:
        return (
            f"sagemaker.max_runtime_s = {options.max_runtime_s} ends a trial before --timeout {case.timeout_s:g} "
            "does: raise it, or leave it out"
        )
    if limits.get("MaxWaitTimeInSeconds", math.inf) < limits["MaxRuntimeInSeconds"]:
        return (
            f"sagemaker.max_wait_s = {options.max_wait_s} is shorter than a job may run "
            f"({limits['MaxRuntimeInSeconds']} s): raise it, or leave it out"
        )
    return None


def stopping_condition(cases: Sequence[Case], options: SagemakerOptions) -> dict[str, int]:
    """After how long SageMaker itself stops the job of these trials, should the harness not do it."""
    runtime = options.max_runtime_s or math.ceil(sum(case.timeout_s for case in cases)) + SETUP_ALLOWANCE_S
    limits = {"MaxRuntimeInSeconds": runtime}
    if options.spot:
        limits["MaxWaitTimeInSeconds"] = options.max_wait_s or runtime + SPOT_QUEUE_ALLOWANCE_S
    return limits


def max_trials_s(options: SagemakerOptions) -> float:
    """How long the time limits of a job's trials may be in all, so that SageMaker stops none of them."""
    limit_s = options.max_runtime_s or DEFAULT_RUNTIME_QUOTA_S - SETUP_ALLOWANCE_S
    return min(limit_s, (options.max_wait_s or math.inf) - SETUP_ALLOWANCE_S)


def job_name(case: Case, unique: str | None = None) -> str:
    """A readable name that SageMaker accepts.

    Args:
        case: The case.
        unique: An ending, since SageMaker accepts no name twice; ``None``: derived from the case.
    """
    unique = unique or hashlib.sha256(case.key.encode()).hexdigest()[:8]
    title = f"scaling-{case.workload}-{case.backend}-{case.nodes}x{case.ranks_on_a_node}"
    clean = re.sub(r"[^A-Za-z0-9]+", "-", title)[: MAX_NAME_LENGTH - len(unique) - 1]
    return f"{clean.strip('-')}-{unique}"


def host_names(count: int) -> list[str]:
    """The names of a job's hosts, in the order of its nodes."""
    return [f"algo-{number}" for number in range(1, count + 1)]


def job_folder(options: SagemakerOptions, name: str) -> str:
    """The S3 folder of a job."""
    return f"{options.s3.rstrip('/')}/{name}"


def output_archive(options: SagemakerOptions, name: str) -> str:
    return f"{job_folder(options, name)}/output/output.tar.gz"


def data_folder(options: SagemakerOptions, digest: str) -> str:
    """The S3 folder of prepared data, which is uploaded once for all jobs."""
    return f"{options.s3.rstrip('/')}/data/{re.sub(r'[^A-Za-z0-9]+', '-', digest)}"


def data_files(case: Case) -> dict[str, Path]:
    """The files of the prepared data, by their names in the data channel."""
    path = Path(case.data.path) if case.data else None
    if path is None or path.is_file():
        return {path.name: path} if path else {}
    return {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}


def with_remote_data(case: Case) -> Case:
    """The case for its hosts: the path of its data is that of the data channel."""
    if case.data is None:
        return case
    path = Path(case.data.path)
    remote_path = f"{DATA_FOLDER}/{path.name}" if path.is_file() else DATA_FOLDER
    return case.model_copy(update={"data": case.data.model_copy(update={"path": remote_path})})


def certificate_object(options: SagemakerOptions, name: str) -> str:
    """The S3 object of a job's certificate, which is removed with the job."""
    return f"{job_folder(options, name)}/input/case/{CERTIFICATE_FILE}"


def checkpoint_folder(options: SagemakerOptions, name: str) -> str:
    """The S3 folder of what the hosts leave while the job runs."""
    return f"{job_folder(options, name)}/checkpoints"


def training_job_request(
    cases: Sequence[Case],
    options: SagemakerOptions,
    name: str,
    *,
    certified: bool = False,
    modules: Sequence[str] = (),
) -> dict[str, Any]:
    """The arguments of CreateTrainingJob.

    Args:
        cases: Those of the job's trials, which have their nodes and their data in common.
        options: Of the site.
        name: The job's name.
        certified: Whether the hosts need a certificate in common.
        modules: Those of backends, which the agents import once beside the frameworks.
    """
    case, folder = cases[0], job_folder(options, name)
    channels = {"case": f"{folder}/input/case/"}
    if options.mode == "script":
        channels["code"] = f"{folder}/input/code/"
    if case.data is not None:
        channels["data"] = f"{data_folder(options, case.data.digest)}/"
    certificate = CERTIFICATE_ARGUMENTS if certified else ()
    command = (*NODE_COMMAND, *certificate, *preload_arguments(cases, modules))
    program, *arguments = command if options.mode == "image" else ("sh", "-c", UNPACK_AND_RUN, "sh", *command)
    request_arguments: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": options.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": [program],
            "ContainerArguments": arguments,
        },
        "RoleArn": options.role,
        "InputDataConfig": [_channel(title, uri) for title, uri in channels.items()],
        "OutputDataConfig": {"S3OutputPath": options.s3.rstrip("/")},
        "ResourceConfig": {
            "InstanceType": options.instance_type,
            "InstanceCount": case.nodes,
            "VolumeSizeInGB": options.volume_gb,
        },
        "StoppingCondition": stopping_condition(cases, options),
        "CheckpointConfig": {"S3Uri": checkpoint_folder(options, name), "LocalPath": CHECKPOINTS_FOLDER},
        "EnableManagedSpotTraining": options.spot,
        "EnableInterContainerTrafficEncryption": options.encrypt_traffic,
    }
    if options.interface:
        request_arguments["Environment"] = {"SCALING_INTERFACE": options.interface}
    if options.subnets:
        groups = options.security_groups.split(";")
        request_arguments["VpcConfig"] = {"SecurityGroupIds": groups, "Subnets": options.subnets.split(";")}
    if options.tags:
        request_arguments["Tags"] = [{"Key": key, "Value": value} for key, value in tags_of(options)]
    return request_arguments


def request_json(request_arguments: dict[str, Any]) -> str:
    return json.dumps(request_arguments, indent=2) + "\n"


def _channel(title: str, uri: str) -> dict[str, Any]:
    return {
        "ChannelName": title,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": uri,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }
