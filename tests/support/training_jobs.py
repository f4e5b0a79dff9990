"""Cases, options and archives of SageMaker's training jobs."""

from __future__ import annotations

import io
import tarfile

from bench.core.case import Case
from harness.sites.sagemaker.training_job import SagemakerOptions
from tests.support.builders import make_case

ROLE = "arn:aws:iam::123456789012:role/service-role/trains"
FRAMEWORK = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311-ubuntu22.04-sagemaker"
OURS = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/scaling-harness:0.1"
BASE = {"role": ROLE, "image": FRAMEWORK, "s3": "s3://our-bucket/benchmarks", "region": "eu-west-1"}
VPC = {"subnets": "subnet-0a1b;subnet-2c3d", "security_groups": "sg-0a1b"}
CHOICES = {
    "script": BASE,
    "image": {**BASE, "mode": "image", "image": OURS, "s3": "s3://our-bucket", "interface": "eth0"},
    "spot-vpc": {
        **BASE,
        **VPC,
        "spot": True,
        "max_runtime_s": 600,
        "instance_type": "ml.g5.xlarge",
        "encrypt_traffic": True,
        "tags": "team=ml;cost centre=42=b",
    },
}


def sagemaker_case(**changes) -> Case:
    return make_case(site="sagemaker", ranks=4, ranks_per_node=2, **changes)


def sagemaker_options(name: str = "script", **changes) -> SagemakerOptions:
    return SagemakerOptions(**{**CHOICES[name], **changes})


def archive_of(*members: tuple[str, bytes | None], kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.type, about.size, about.linkname = kind, len(content or b""), "/etc/passwd"
            archive.addfile(about, io.BytesIO(content or b""))
    packed.seek(0)
    return packed
