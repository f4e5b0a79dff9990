"""SageMaker, S3 and CloudWatch through boto3, as far as a training job needs them.

Keys come from AWS's own chain (environment, shared settings, roles) and stay there: nothing here reads one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
CREDENTIAL_ERRORS = re.compile(r"Signature|Token|Credential|AccessKey|Auth|UnrecognizedClient", re.IGNORECASE)
ACCESS_KEY_ID = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}\b")
MAX_MESSAGE_LENGTH = 300
FINAL_STATUSES = ("Completed", "Failed", "Stopped")


class AwsError(Exception):
    """What AWS, or the way to it, said: in one line, without what could hold a secret.

    ``code``: AWS's own, or the name of the exception; ``transient``: the next attempt may succeed.
    """

    def __init__(self, code: str, message: str, *, transient: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.transient = code, transient

    @property
    def concerns_account(self) -> bool:
        """It is about keys or the network: whatever is asked next will meet it too."""
        return self.transient or CREDENTIAL_ERRORS.search(self.code) is not None


@dataclass(frozen=True)
class TrainingJobDescription:
    """What DescribeTrainingJob says of a job."""

    status: str
    detail: str
    reason: str | None
    billable_s: int | None
    instances: int

    @property
    def over(self) -> bool:
        return self.status in FINAL_STATUSES

    @property
    def containers_running(self) -> bool:
        """The containers run: what was before is queueing, and fetching images and channels."""
        return self.detail in ("Training", "Uploading")

    @property
    def failure(self) -> str | None:
        """Why it did not end well, in SageMaker's words; ``None`` where it did."""
        if self.status == "Completed":
            return None
        return _one_line(self.reason or (self.detail if self.detail != self.status else self.status))


class AwsClient:
    """One account and region. Every method raises :class:`AwsError`."""

    def __init__(self, region: str = "", profile: str = "") -> None:
        self.session_arguments = {"region_name": region or None, "profile_name": profile or None}

    @cached_property
    def _session(self) -> Any:
        import boto3

        with _translated_errors():
            return boto3.Session(**self.session_arguments)

    def unavailable_reason(self) -> str | None:
        """Why it can't be reached with what is set here, with the remedy, or ``None``; nothing is sent to AWS."""
        try:
            session = self._session
            if session.region_name is None:
                return "no AWS region: --set sagemaker.region=REGION, or AWS_DEFAULT_REGION"
            with _translated_errors():
                if session.get_credentials() is None:
                    return "no AWS credentials: run `aws configure`, or set AWS_PROFILE"
        except AwsError as problem:
            return f"AWS's settings are of no use ({problem}): mend them with `aws configure`"
        return None

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        patient = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60)
        with _translated_errors():
            return self._session.client(service, config=patient)

    @cached_property
    def _jobs(self) -> Any:
        return self._client("sagemaker")

    @cached_property
    def _objects(self) -> Any:
        return self._client("s3")

    @cached_property
    def _logs(self) -> Any:
        return self._client("logs")

    def create(self, request: dict[str, Any]) -> None:
        with _translated_errors():
            self._jobs.create_training_job(**request)

    def describe(self, name: str) -> TrainingJobDescription | None:
        """What is known of a job; ``None``: there is none of this name."""
        try:
            with _translated_errors():
                found = self._jobs.describe_training_job(TrainingJobName=name)
        except AwsError as problem:
            if problem.code in ("ValidationException", "ResourceNotFound"):
                return None
            raise
        return TrainingJobDescription(
            status=found["TrainingJobStatus"],
            detail=found["SecondaryStatus"],
            reason=found.get("FailureReason"),
            billable_s=found.get("BillableTimeInSeconds"),
            instances=found["ResourceConfig"]["InstanceCount"],
        )

    def stop(self, name: str) -> None:
        """Ask for the end of a job; one that has ended is left as it is."""
        try:
            with _translated_errors():
                self._jobs.stop_training_job(TrainingJobName=name)
        except AwsError as problem:
            if problem.code not in ("ValidationException", "ResourceNotFound"):
                raise

    def put(self, uri: str, content: bytes) -> None:
        bucket, key = _bucket_and_key(uri)
        with _translated_errors():
            self._objects.put_object(Bucket=bucket, Key=key, Body=content)

    def put_file(self, uri: str, path: Path) -> None:
        """Send a file, unless one of this name and size is there."""
        bucket, key = _bucket_and_key(uri)
        try:
            with _translated_errors():
                if self._objects.head_object(Bucket=bucket, Key=key)["ContentLength"] == path.stat().st_size:
                    return
        except AwsError as problem:
            if problem.code not in ("404", "NoSuchKey", "403"):
                raise
        with _translated_errors():
            self._objects.upload_file(str(path), bucket, key)

    def fetch(self, uri: str, path: Path) -> bool:
        """Bring an object home; ``False``: there is none."""
        bucket, key = _bucket_and_key(uri)
        try:
            with _translated_errors():
                self._objects.download_file(bucket, key, str(path))
        except AwsError as problem:
            if problem.code in ("404", "NoSuchKey"):
                return False
            raise
        return True

    def log_tail(self, name: str, count: int) -> list[str]:
        """The last lines that each host of a job printed, as ``algo-1: …``."""
        lines = []
        with _translated_errors():
            streams = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/")
            for stream in streams["logStreams"]:
                title = stream["logStreamName"]
                found = self._logs.get_log_events(
                    logGroupName=LOG_GROUP, logStreamName=title, limit=count, startFromHead=False
                )
                host = re.sub(r"-\d+$", "", title.partition("/")[2])
                lines += [f"{host}: {event['message'].rstrip()}" for event in found["events"]]
        return lines


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Whatever boto3 raises, as :class:`AwsError`."""
    import boto3.exceptions
    import botocore.exceptions as wrong

    passing = (wrong.ConnectionError, wrong.HTTPClientError, wrong.ConnectionClosedError)
    try:
        yield
    except wrong.ClientError as problem:
        failure = problem.response.get("Error", {})
        code = str(failure.get("Code", "Unknown"))
        # Such messages quote the request that was signed.
        message = "" if CREDENTIAL_ERRORS.search(code) else str(failure.get("Message", ""))
        raise AwsError(code, _one_line(message), transient=code.startswith("Throttling")) from None
    except (wrong.BotoCoreError, boto3.exceptions.Boto3Error) as problem:
        raise AwsError(
            type(problem).__name__, _one_line(str(problem)), transient=isinstance(problem, passing)
        ) from None


def _one_line(text: str) -> str:
    line = ACCESS_KEY_ID.sub("(a key)", " ".join(text.split()))
    return line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:MAX_MESSAGE_LENGTH]}…"
