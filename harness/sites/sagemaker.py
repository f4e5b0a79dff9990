"""AWS SageMaker: every trial is a training job, every node an instance of it.

From outside: case and source go to S3, CreateTrainingJob starts the instances, what the ranks left comes back from S3.
Inside: :mod:`bench.sagemaker_entry`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import cast

from bench.backends import Options
from bench.case import Case, Role
from harness.aws.archives import BadArchive, unpack
from harness.aws.client import Cloud, CloudProblem, Told
from harness.aws.rank_source import pack_source
from harness.aws.training_job import (
    SOURCE_ARCHIVE,
    SagemakerOptions,
    as_text,
    cost_of,
    data_files,
    data_folder,
    hosts_of,
    job_folder,
    job_name,
    output_archive,
    request,
    unset,
    why_never,
    with_data_there,
)
from harness.errors import HarnessError
from harness.remote import MARGIN_S, Lost, NeverBegan, ends_in, gather
from harness.sites import Asked, Ending, Job, Site

SILENCE_S = 600.0
"""How long SageMaker may be out of reach before the sweep is given up."""
STOP_S = 600.0
"""How long a job that was told to stop may take: its containers get two minutes, and what they left is saved then."""
SLOWEST = 6.0
"""How much rarer than at first a job is asked for in the end."""
GROWTH = 1.2
LOG_LINES = 20


class Sagemaker(Site):
    name = "sagemaker"
    summary = "AWS SageMaker training jobs; an instance is a node"
    options = SagemakerOptions
    requires = ("boto3",)
    extra = "sagemaker"

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.wanted = cast(SagemakerOptions, self.chosen)
        self.cloud = Cloud(self.wanted.region, self.wanted.profile)

    def unset(self) -> str | None:
        return unset(self.wanted)

    def why_not(self, case: Case) -> str | None:
        return self.lacking() or why_never(case, self.wanted) or self._out_of_reach

    @cached_property
    def _out_of_reach(self) -> str | None:
        return self.cloud.why_not()

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        # The submitted name ends otherwise: SageMaker takes none twice.
        return {"training-job.json": as_text(request(case, self.wanted, job_name(case)))}

    def start(self, asked: Asked) -> Job:
        name = job_name(asked.case, secrets.token_hex(4))
        job = TrainingJob(self.cloud, self.wanted, asked, name)
        try:
            self._send(asked.case, name)
            self.cloud.create(request(asked.case, self.wanted, name))
        except CloudProblem as problem:
            if problem.general:
                raise HarnessError(f"SageMaker can't be asked for jobs ({problem}); mend that, then `python -m harness "
                                   "sweep --resume`") from None  # fmt: skip
            return NeverBegan(f"SageMaker did not take the job: {problem}")
        except BaseException:
            # Whether it had been created by then is not known.
            job.cancel()
            raise
        return job

    def _send(self, case: Case, name: str) -> None:
        folder = job_folder(self.wanted, name)
        self.cloud.put(f"{folder}/input/case/case.json", with_data_there(case).model_dump_json().encode())
        if self.wanted.mode == "script":
            self.cloud.put(f"{folder}/input/code/{SOURCE_ARCHIVE}", pack_source())
        if case.data is not None:
            for title, path in data_files(case).items():
                self.cloud.put_file(f"{data_folder(self.wanted, case.data.digest)}/{title}", path)

    def rejoin(self, asked: Asked, handle: str) -> Job | None:
        try:
            told = self.cloud.describe(handle)
        except CloudProblem as problem:
            raise HarnessError(f"SageMaker job {handle} can't be asked for: {problem}") from None
        if told is None or told.status in ("Stopping", "Stopped", "Deleting"):
            return None
        return TrainingJob(self.cloud, self.wanted, asked, handle)


class TrainingJob(Job):
    """A training job, under way or ended."""

    def __init__(self, cloud: Cloud, wanted: SagemakerOptions, asked: Asked, name: str) -> None:
        self.cloud, self.wanted, self.asked, self.name = cloud, wanted, asked, name
        self.handle = name

    def wait(self, timeout_s: float) -> Ending:
        with self._or_given_up("can't be watched any more"):
            told, timed_out = self._watch(timeout_s + MARGIN_S)
            problem = self._bring_home()
        return self._ending(told, problem, timed_out=timed_out)

    def cancel(self) -> None:
        with self._or_given_up("could not be stopped and may still be billed"):
            self.cloud.stop(self.name)

    @contextmanager
    def _or_given_up(self, what: str) -> Iterator[None]:
        """The job is left as it is, and named: raises :class:`HarnessError`."""
        try:
            yield
        except CloudProblem as problem:
            by_hand = f"aws sagemaker stop-training-job --training-job-name {self.name}"
            raise HarnessError(f"SageMaker job {self.name} {what} ({problem}); `python -m harness sweep --resume` "
                               f"takes it up again, `{by_hand}` ends it") from None  # fmt: skip

    def _watch(self, limit_s: float) -> tuple[Told, bool]:
        """Ask until it is over; stop it once its containers have run for ``limit_s``: queueing does not count."""
        pause_s, training_since, stopped_at = self.wanted.poll_s, None, None
        while True:
            told = self._asked_patiently()
            now = time.monotonic()
            if told.over or (stopped_at is not None and now - stopped_at > STOP_S):
                return told, stopped_at is not None
            if told.training and training_since is None:
                training_since, pause_s = now, self.wanted.poll_s
            if stopped_at is None and training_since is not None and now - training_since > limit_s:
                self.cloud.stop(self.name)
                stopped_at, pause_s = now, self.wanted.poll_s
            time.sleep(pause_s)
            pause_s = min(pause_s * GROWTH, self.wanted.poll_s * SLOWEST)

    def _asked_patiently(self) -> Told:
        deadline = time.monotonic() + SILENCE_S
        while True:
            try:
                told = self.cloud.describe(self.name)
            except CloudProblem as problem:
                if not problem.passing or time.monotonic() > deadline:
                    raise
            else:
                if told is None:
                    raise CloudProblem("ResourceNotFound", "SageMaker knows no job of this name")
                return told
            time.sleep(self.wanted.poll_s * SLOWEST)

    def _bring_home(self) -> str | None:
        """Put what the hosts left into the trial's folder; says why there is nothing."""
        archive = self.asked.folder / "output.tar.gz"
        if not self.cloud.fetch(output_archive(self.wanted, self.name), archive):
            return "no output.tar.gz came"
        try:
            with archive.open("rb") as content:
                unpack(content, self.asked.folder)
        except BadArchive as problem:
            return f"its output.tar.gz {problem}"
        finally:
            archive.unlink()
        return None

    def _ending(self, told: Told, problem: str | None, *, timed_out: bool) -> Ending:
        case, folder = self.asked.case, self.asked.folder
        why = f"SageMaker says {told.said}" if told.said else problem or ""
        silent = sorted(set(range(case.nodes)) - set(ends_in(folder)))
        lost = [Lost(node, hosts_of(case.nodes)[node], why) for node in silent] if why and not timed_out else []
        tail = [*([f"SageMaker: {told.status}: {told.said}"] if told.said else []), *([problem] if problem else [])]
        if silent:
            tail += self._log_tail()
        ending = gather(folder, case, lost, timed_out=timed_out, why_silent=why, log_tail=tail)
        if told.said and ending.outcome == "ok":
            ending = replace(ending, outcome="failed", reason=why, log_tail=tuple(tail))
        cost, unknown = cost_of(told.billable_s, told.instances, self.wanted.price_per_hour)
        return replace(ending, cost=cost, cost_reason=unknown)

    def _log_tail(self) -> list[str]:
        try:
            return self.cloud.log_tail(self.name, LOG_LINES)
        except CloudProblem as problem:
            return [f"CloudWatch's log is not to be had: {problem}"]


SITE = Sagemaker()
