"""SageMaker, S3 and CloudWatch through boto3, as far as a training job needs them.

boto3 finds the credentials by its own chain (environment, shared configuration, roles); this module never reads one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.core.text import one_line

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
CREDENTIAL_ERRORS = re.compile(r"Signature|Token|Credential|AccessKey|Auth|UnrecognizedClient", re.IGNORECASE)
ACCESS_KEY_ID = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}\b")
MAX_MESSAGE_LENGTH = 300
FINAL_STATUSES = ("Completed", "Failed", "Stopped")


class AwsError(Exception):
    """A request to AWS failed. The text is one line and holds no secret.

    Attributes:
        code: AWS's error code, or the name of boto3's exception.
        transient: Whether the next attempt may succeed.
    """

    def __init__(self, code: str, message: str, *, transient: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.transient = code, transient

    @property
    def concerns_account(self) -> bool:
        """Whether it is about credentials or the network, so that every other request fails too."""
        return self.transient or CREDENTIAL_ERRORS.search(self.code) is not None


@dataclass(frozen=True)
class TrainingJobDescription:
    """A training job as DescribeTrainingJob reports it.

    Attributes:
        status: ``TrainingJobStatus``.
        detail: ``SecondaryStatus``.
        reason: ``FailureReason``.
        billable_s: ``BillableTimeInSeconds`` of one instance.
        instances: How many instances it has.
        began_at_s: ``TrainingStartTime``, from which on it is billed, in seconds since the Unix epoch.
        ended_at_s: ``TrainingEndTime``, likewise.
    """

    status: str
    detail: str
    reason: str | None
    billable_s: int | None
    instances: int
    began_at_s: float | None = None
    ended_at_s: float | None = None

    @property
    def over(self) -> bool:
        return self.status in FINAL_STATUSES

    @property
    def containers_running(self) -> bool:
        """Whether the containers have started: before, the job queues and fetches its image and its channels."""
        return self.detail in ("Training", "Uploading")

    @property
    def starts(self) -> bool:
        """Whether it queues, or its instances start: for the first time, or after an interruption of spot instances."""
        return self.status == "InProgress" and not self.containers_running

    @property
    def failure(self) -> str | None:
        """Why the job failed, in SageMaker's words; ``None`` where it completed."""
        if self.status == "Completed":
            return None
        return _message(self.reason or (self.detail if self.detail != self.status else self.status))


class AwsClient:
    """One account and region. Every method raises :class:`AwsError`.

    Args:
        region: The AWS region; empty: as AWS's own configuration says.
        profile: A profile of AWS's own configuration.
        objects: The S3 client; ``None``: boto3's.
    """

    def __init__(self, region: str = "", profile: str = "", objects: Any = None) -> None:
        self.session_arguments = {"region_name": region or None, "profile_name": profile or None}
        self._given_objects = objects

    @cached_property
    def _session(self) -> Any:
        import boto3

        with _translated_errors():
            return boto3.Session(**self.session_arguments)

    def unavailable_reason(self) -> str | None:
        """Why AWS can't be used with the configuration of this machine, with the remedy, or ``None``; sends no
        request."""
        try:
            session = self._session
            if session.region_name is None:
                return "no AWS region: --set sagemaker.region=REGION, or set AWS_DEFAULT_REGION"
            with _translated_errors():
                if session.get_credentials() is None:
                    return "no AWS credentials: run `aws configure`, or set AWS_PROFILE"
        except AwsError as problem:
            return f"AWS's configuration can't be used ({problem}): correct it with `aws configure`"
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
        return self._given_objects or self._client("s3")

    @cached_property
    def _logs(self) -> Any:
        return self._client("logs")

    def create(self, request: dict[str, Any]) -> None:
        with _translated_errors():
            self._jobs.create_training_job(**request)

    def describe(self, name: str) -> TrainingJobDescription | None:
        """A job's description; ``None``: there is no job of this name."""
        try:
            with _translated_errors():
                answer = self._jobs.describe_training_job(TrainingJobName=name)
        except AwsError as problem:
            if problem.code in ("ValidationException", "ResourceNotFound"):
                return None
            raise
        return TrainingJobDescription(
            status=answer["TrainingJobStatus"],
            detail=answer["SecondaryStatus"],
            reason=answer.get("FailureReason"),
            billable_s=answer.get("BillableTimeInSeconds"),
            instances=answer["ResourceConfig"]["InstanceCount"],
            began_at_s=_seconds(answer.get("TrainingStartTime")),
            ended_at_s=_seconds(answer.get("TrainingEndTime")),
        )

    def stop(self, name: str) -> None:
        """Stop a job; does nothing where it has ended."""
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

    def remove(self, uri: str) -> None:
        bucket, key = _bucket_and_key(uri)
        with _translated_errors():
            self._objects.delete_object(Bucket=bucket, Key=key)

    def put_file(self, uri: str, path: Path) -> None:
        """Upload a file, unless one of this name and size is there."""
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
        """Download an object; ``False``: there is no such object."""
        bucket, key = _bucket_and_key(uri)
        try:
            with _translated_errors():
                self._objects.download_file(bucket, key, str(path))
        except AwsError as problem:
            if problem.code in ("404", "NoSuchKey"):
                return False
            raise
        return True

    def written_at_s(self, uri: str) -> float | None:
        """When an object was written, in seconds since the Unix epoch; ``None``: there is no such object."""
        bucket, key = _bucket_and_key(uri)
        try:
            with _translated_errors():
                return _seconds(self._objects.head_object(Bucket=bucket, Key=key)["LastModified"])
        except AwsError as problem:
            # Who may not list a bucket is not told what is missing there.
            if problem.code in ("404", "NoSuchKey", "403"):
                return None
            raise

    def log_tail(self, name: str, count: int) -> list[str]:
        """The last lines that each host of a job printed, as ``algo-1: …``."""
        lines = []
        with _translated_errors():
            streams = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/")
            for stream in streams["logStreams"]:
                title = stream["logStreamName"]
                page = self._logs.get_log_events(
                    logGroupName=LOG_GROUP, logStreamName=title, limit=count, startFromHead=False
                )
                host = re.sub(r"-\d+$", "", title.partition("/")[2])
                lines += [f"{host}: {event['message'].rstrip()}" for event in page["events"]]
        return lines


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise boto3's exceptions as :class:`AwsError`."""
    import boto3.exceptions
    from botocore import exceptions

    transient = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.ConnectionClosedError)
    try:
        yield
    except exceptions.ClientError as problem:
        failure = problem.response.get("Error", {})
        code = str(failure.get("Code", "Unknown"))
        # The messages of credential errors quote the signed request.
        message = "" if CREDENTIAL_ERRORS.search(code) else str(failure.get("Message", ""))
        raise AwsError(code, _message(message), transient=code.startswith("Throttling")) from None
    except (exceptions.BotoCoreError, boto3.exceptions.Boto3Error) as problem:
        raise AwsError(
            type(problem).__name__, _message(str(problem)), transient=isinstance(problem, transient)
        ) from None


def _message(text: str) -> str:
    """On one line, without access keys."""
    return one_line(ACCESS_KEY_ID.sub("(a key)", text), MAX_MESSAGE_LENGTH)
