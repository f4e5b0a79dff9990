"""SageMaker on this machine: moto answers the calls, and what it only pretends is done, on nodes in namespaces.

moto's jobs are complete at once, nothing of theirs runs, and StopTrainingJob is missing. Here a job goes through its
states while its containers' own command runs on its hosts, each with its own /opt/ml, and leaves its output on S3.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from moto.core.responses import ActionResult
from moto.sagemaker.models import FakeTrainingJob, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.server import ThreadedMotoServer

from bench.host.links import NODE_INTERFACE
from tests.support.namespaces import Node

ACCOUNT, REGION, BUCKET = "123456789012", "us-east-1", "our-bucket"
KEY_ID, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGSecretOfNobody", "FwoGZXIvYXdzTokenOfNobody"
ML = "/opt/ml"
BILLED_S = 90
LAST_WORDS_S = 20.0


class SageMaker:
    """The service: ``requests`` are the jobs it was asked for, ``stops`` those it was asked to stop."""

    def __init__(self, nodes: Mapping[str, Node], url: str) -> None:
        self.nodes, self.url = nodes, url
        self.requests: list[dict[str, Any]] = []
        self.stops: list[str] = []
        self.image_env: dict[str, str] = {}
        """Variables of the containers' image."""
        self.threads: list[threading.Thread] = []
        self.objects = self.client("s3")
        self.objects.create_bucket(Bucket=BUCKET)

    @property
    def env(self) -> dict[str, str]:
        """AWS's own settings, by which the harness finds it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
        )

    def job(self, name: str) -> FakeTrainingJob:
        return sagemaker_backends[ACCOUNT][REGION].training_jobs[name]

    def create(self, request: dict[str, Any]) -> None:
        job = self.job(request["TrainingJobName"])
        job.training_job_status, job.secondary_status = "InProgress", "Starting"
        job.training_start_time = job.training_end_time = None
        self.threads.append(threading.Thread(target=self._play, args=(request, job), daemon=True))
        self.requests.append(request)
        self.threads[-1].start()

    def stop(self, name: str) -> None:
        self.stops.append(name)
        self.job(name).training_job_status = "Stopping"

    def at_rest(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)

    def _play(self, request: dict[str, Any], job: FakeTrainingJob) -> None:
        hosts = list(self.nodes)[: request["ResourceConfig"]["InstanceCount"]]
        job.secondary_status = "Downloading"
        for host in hosts:
            self._lay_out(host, hosts, request["InputDataConfig"])
        job.secondary_status, job.training_start_time = "Training", datetime.now(UTC)
        codes = self._run(request, hosts, job)
        job.secondary_status = "Uploading"
        self._upload(request, hosts)
        job.training_end_time = datetime.now(UTC)
        job.billable_time_in_seconds = BILLED_S
        bad = next((number for number, code in enumerate(codes) if code), None)
        status = "Stopped" if job.training_job_status == "Stopping" else "Completed" if bad is None else "Failed"
        if status == "Failed" and bad is not None:
            said = self.nodes[hosts[bad]].outside(f"{ML}/output/failure")
            why = said.read_text()[:1024] if said.exists() else ""
            # As a shell would say that a signal ended it.
            job.failure_reason = (
                f"AlgorithmError: {why}, exit code: {codes[bad] if codes[bad] > 0 else 128 - codes[bad]}"
            )
        job.secondary_status = job.training_job_status = status

    def _lay_out(self, host: str, hosts: Sequence[str], channels: Sequence[dict[str, Any]]) -> None:
        """What a container finds under /opt/ml."""
        root = self.nodes[host].outside(ML)
        for left in root.iterdir():
            shutil.rmtree(left)
        for folder in ("input/config", "input/data", "output/data", "model", "checkpoints"):
            (root / folder).mkdir(parents=True)
        about = {"current_host": host, "hosts": hosts, "network_interface_name": NODE_INTERFACE}
        (root / "input/config/resourceconfig.json").write_text(json.dumps(about))
        for channel in channels:
            prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
            for found in self.objects.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
                target = root / "input/data" / channel["ChannelName"] / found["Key"].removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.objects.download_file(BUCKET, found["Key"], str(target))

    def _run(self, request: dict[str, Any], hosts: Sequence[str], job: FakeTrainingJob) -> list[int]:
        """The containers' command on every host; their exit statuses. One that fails, or a stop, ends the others."""
        asked = request["AlgorithmSpecification"]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        env = {"PATH": path, "HOME": "/root", "TRAINING_JOB_NAME": job.training_job_name, **self.image_env}
        named = [f"{name}={value}" for name, value in {**env, **request.get("Environment", {})}.items()]
        command = ["env", "-i", *named, *asked["ContainerEntrypoint"], *asked["ContainerArguments"]]
        running = []
        for host in hosts:
            with self.nodes[host].outside(f"{ML}/output/log").open("wb") as log:
                process = self.nodes[host].start(
                    command, cwd=Path("/"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                running.append(process)
        deadline, copied = None, set()
        while any(process.poll() is None for process in running):
            failed = any(process.poll() for process in running)
            if deadline is None and (failed or job.training_job_status == "Stopping"):
                deadline = time.monotonic() + LAST_WORDS_S
                for process in running if not failed else ():
                    process.send_signal(signal.SIGTERM)
            if deadline is not None and time.monotonic() > deadline:
                for host in hosts:
                    self.nodes[host].kill_all()
            self._copy_checkpoints(request, hosts, copied)
            time.sleep(0.05)
        self._copy_checkpoints(request, hosts, copied)
        return [process.wait() for process in running]

    def _copy_checkpoints(self, request: dict[str, Any], hosts: Sequence[str], copied: set[Path]) -> None:
        """What all hosts have written to the folder of checkpoints, to the one place on S3."""
        place = request["CheckpointConfig"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
        for host in hosts:
            for path in sorted(self.nodes[host].outside(request["CheckpointConfig"]["LocalPath"]).iterdir()):
                if path not in copied and not path.name.startswith("."):
                    self.objects.upload_file(str(path), BUCKET, f"{place}/{path.name}")
                    copied.add(path)

    def _upload(self, request: dict[str, Any], hosts: Sequence[str]) -> None:
        """The output of all hosts as one archive, and what they printed to CloudWatch."""
        packed, name = io.BytesIO(), request["TrainingJobName"]
        logs, group = self.client("logs"), "/aws/sagemaker/TrainingJobs"
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            logs.create_log_group(logGroupName=group)
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for host in hosts:
                output = self.nodes[host].outside(f"{ML}/output")
                for path in sorted((output / "data").rglob("*")):
                    # A file that was being written when its writer was killed has another name yet.
                    if path.is_file() and not path.name.startswith("."):
                        archive.add(path, str(path.relative_to(output / "data")))
                stream = f"{name}/{host}-1700000000"
                logs.create_log_stream(logGroupName=group, logStreamName=stream)
                printed = [
                    {"timestamp": int(time.time() * 1000), "message": line}
                    for line in (output / "log").read_text().splitlines()
                    if line
                ]
                if printed:
                    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=printed)
        place = request["OutputDataConfig"]["S3OutputPath"].removeprefix(f"s3://{BUCKET}/")
        self.objects.put_object(Bucket=BUCKET, Key=f"{place}/{name}/output/output.tar.gz", Body=packed.getvalue())


@contextmanager
def sagemaker_on(nodes: Mapping[str, Node]) -> Iterator[SageMaker]:
    """The service, with the nodes as all its instances; when it ends its jobs have ended."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    service = SageMaker(nodes, f"http://{host}:{port}")
    moto_creates = SageMakerResponse.create_training_job

    def create(response: SageMakerResponse) -> ActionResult:
        answer = moto_creates(response)
        # moto drops what it does not know, the environment for one.
        service.create(json.loads(response.body))
        return answer

    def stop(response: SageMakerResponse) -> ActionResult:
        service.stop(response._get_param("TrainingJobName"))
        return ActionResult({})

    with (
        patch.object(SageMakerResponse, "create_training_job", create),
        patch.object(SageMakerResponse, "stop_training_job", stop, create=True),
    ):
        try:
            yield service
            for thread in service.threads:
                thread.join(LAST_WORDS_S)
            assert service.at_rest(), "a training job is left running"
        finally:
            server.stop()
