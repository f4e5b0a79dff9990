#!/usr/bin/env bash
# moto's SageMaker is no stand-in for the life of a training job: it is Completed as soon as it was created.
#
# create_training_job accepts an instance type that does not exist, the job is Completed at the first look, its
# Environment is not there any more, no billable time is told, and stop_training_job does not exist. A client tested
# against it alone has not been tested for waiting, for failures, for costs or for Ctrl-C; and one that reads Environment
# back from describe_training_job sees none.
#
# Versions: moto 5.2.5, boto3 1.44.5
# Seen:
#     status: Completed
#     instance type: ml.m5.abacus
#     environment: None
#     billable seconds: None
#     stop: The stop_training_job action has not been implemented
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "moto[sagemaker]==5.2.5" boto3==1.44.5
cat >"$folder/finding.py" <<'PYTHON'
import os

import boto3
from moto import mock_aws

os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
with mock_aws():
    client = boto3.client("sagemaker")
    client.create_training_job(
        TrainingJobName="job",
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/role",
        OutputDataConfig={"S3OutputPath": "s3://bucket"},
        ResourceConfig={"InstanceType": "ml.m5.abacus", "InstanceCount": 2, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Environment={"NAME": "value"},
    )
    job = client.describe_training_job(TrainingJobName="job")
    print("status:", job["TrainingJobStatus"])
    print("instance type:", job["ResourceConfig"]["InstanceType"])
    print("environment:", job.get("Environment"))
    print("billable seconds:", job.get("BillableTimeInSeconds"))
    try:
        client.stop_training_job(TrainingJobName="job")
    except NotImplementedError as problem:
        print("stop:", problem)
PYTHON
"$folder/env/bin/python" -W ignore "$folder/finding.py" 2>"$folder/err" | tee "$folder/out" || { cat "$folder/err" >&2; exit 1; }
diff - "$folder/out" <<'EXPECTED'
status: Completed
instance type: ml.m5.abacus
environment: None
billable seconds: None
stop: The stop_training_job action has not been implemented
EXPECTED
echo "still so"
