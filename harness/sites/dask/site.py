"""The site of a Dask cluster: one that is running, or one of Slurm jobs that is started for the sweep."""

from __future__ import annotations

import atexit
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bench.backends.dask.cluster_ref import SchedulerAddress, Tls
from bench.core.case import Case, Role
from bench.dask_cluster.assignment import UnsuitableCluster, assign, planned_tasks, threads_needed, unsuitable_reason
from bench.dask_cluster.cluster import PATH_PATTERN, PRINT_JOB_SCRIPT, ClusterInfo, JobQueueSpec
from bench.host.installation import install_command
from bench.host.paths import from_home
from bench.plugins.backend import Options
from harness.interrupts import interrupts_allowed
from harness.planning.source_copy import share_sources
from harness.sites.base.contract import Job, Site, SiteOptions, TrialRequest
from harness.sites.base.remote import UnstartedJob
from harness.sites.base.sbatch_options import SAFE_SBATCH_OPTIONS, check_sbatch_options
from harness.sites.dask.processes import ClusterUnavailable, DaskJob, JobQueueCluster, survey_cluster

ADDRESS_PATTERN = r"^(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,-]*$"
SAFE_DIRECTIVES = {*SAFE_SBATCH_OPTIONS, "constraint", "gpus-per-node", "qos"}
"""Options of sbatch that ``directives`` may hold. The slurm site has options of its own for the last three."""
NO_CLUSTER_NAMED = "no Dask cluster is named: --set dask.address=tcp://HOST:8786, or --set dask.jobqueue=slurm"
JOBS_FILE = "jobs.json"


class DaskSiteOptions(SiteOptions):
    """The options of the Dask site: a cluster that is running, or the jobs of one that is started."""

    address: str | None = Field(None, pattern=ADDRESS_PATTERN, description="the scheduler of a cluster that is running")
    tls_ca: str | None = Field(None, pattern=PATH_PATTERN, description="path of the certificate authority's PEM file")
    tls_cert: str | None = Field(None, pattern=PATH_PATTERN, description="path of the client's certificate")
    tls_key: str | None = Field(None, pattern=PATH_PATTERN, description="path of the client's private key")
    jobqueue: Literal["slurm"] | None = Field(None, description="start a cluster as jobs of this system for the sweep")
    queue: str | None = Field(
        None, pattern=NAME_PATTERN, coerce_numbers_to_str=True, description="partition of the jobs"
    )
    account: str | None = Field(
        None, pattern=NAME_PATTERN, coerce_numbers_to_str=True, description="account that the jobs are billed to"
    )
    walltime: str = Field("01:00:00", pattern=r"^(\d+-)?\d{1,2}:\d\d:\d\d$", description="time limit of the jobs")
    memory: str = Field(
        "0",
        pattern=r"^\d+[KMGT]?$",
        coerce_numbers_to_str=True,
        description="memory of a job as Slurm writes it; 0: all that its node has",
    )
    exclusive: bool = Field(
        True, description="give each job a node of its own, so that ranks are on the nodes of the plan"
    )
    directives: str = Field("", description="further #SBATCH lines, such as --qos=long --exclude=n7")
    interface: str | None = Field(
        None, pattern=NAME_PATTERN, description="network interface of scheduler and workers, by name"
    )
    python: str = Field(sys.executable, pattern=PATH_PATTERN, description="Python of the jobs")
    start_s: float = Field(600.0, gt=0, description="seconds that the jobs may wait in the queue")

    @field_validator("directives")
    @classmethod
    def _known_to_be_safe(cls, text: str) -> str:
        return check_sbatch_options(text, SAFE_DIRECTIVES)

    @model_validator(mode="after")
    def _agrees(self) -> DaskSiteOptions:
        tls_paths = [self.tls_ca, self.tls_cert, self.tls_key]
        if any(tls_paths) and not all(tls_paths):
            raise ValueError("tls_ca, tls_cert and tls_key belong together: set all three or none")
        if self.address and self.jobqueue:
            raise ValueError("address names a running cluster, jobqueue starts one: leave one of them out")
        if self.address and (self.address.startswith("tls://") != all(tls_paths)):
            raise ValueError("an address tls://… goes with tls_ca, tls_cert and tls_key: set all of them or none")
        return self

    @property
    def tls(self) -> Tls | None:
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        ca, cert, key = (str(from_home(path)) for path in (self.tls_ca, self.tls_cert, self.tls_key))
        return Tls(ca=ca, cert=cert, key=key)


def job_queue_spec(cases: Sequence[Case], options: DaskSiteOptions, logs: Path | None = None) -> JobQueueSpec:
    """The jobs that can hold any one of these cases: a host for each node, a worker for each rank (pure).

    Args:
        cases: At least one case.
        options: The site's options.
        logs: The folder for the jobs' output; ``None``: where Slurm writes it by itself.
    """
    workers = max(case.ranks_on_a_node for case in cases)
    return JobQueueSpec(
        count=max(case.nodes for case in cases),
        workers=workers,
        threads=max(threads_needed(case) for case in cases),
        cores=workers * max(case.threads for case in cases),
        queue=options.queue,
        account=options.account,
        walltime=options.walltime,
        memory=options.memory,
        directives=(*(("--exclusive",) if options.exclusive else ()), *options.directives.split()),
        interface=options.interface,
        python=options.python,
        # The path is not quoted in the job script: one with other characters is left out.
        logs=str(logs) if logs is not None and re.fullmatch(PATH_PATTERN, str(logs)) else None,
        tls=options.tls,
        start_s=options.start_s,
    )


def covers(spec: JobQueueSpec, other: JobQueueSpec) -> bool:
    """Whether a cluster of ``spec`` can hold the cases of ``other`` (pure)."""
    return all(getattr(spec, name) >= getattr(other, name) for name in ("count", "workers", "threads", "cores"))


class DaskSite(Site):
    """A Dask cluster as a site. A cluster of jobs is started with the first trial and ends with this process."""

    name = "dask"
    summary = "a Dask cluster that is running, or one of Slurm jobs"
    options = DaskSiteOptions
    provides_services = True
    requires = ("dask", "distributed")
    extra = "frameworks"
    chosen: DaskSiteOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.cluster_info: ClusterInfo | None = None
        """Of the running cluster, after :meth:`survey`."""
        self.reserved: tuple[Case, ...] = ()
        """The cases that a cluster of jobs must be able to hold."""
        self.jobs: JobQueueCluster | None = None
        self.jobs_address = SchedulerAddress(address="")

    def missing_dependency(self) -> str | None:
        if self.chosen.jobqueue and importlib.util.find_spec("dask_jobqueue") is None:
            return f"dask_jobqueue not installed: {install_command('slurm')}"
        return super().missing_dependency()

    def missing_option(self) -> str | None:
        return None if self.chosen.address or self.chosen.jobqueue else NO_CLUSTER_NAMED

    def survey(self) -> None:
        if self.chosen.address and not self.missing_dependency():
            self.cluster_info = survey_cluster(self._running_cluster)

    def unavailable_reason(self, case: Case) -> str | None:
        return (
            unsuitable_reason(case)
            or self.missing_option()
            or ("networks of a chosen rate are made on this machine only: leave --net out" if case.net else None)
            or self.missing_dependency()
            or (self._unavailable_on_running_cluster(case) if self.chosen.address else self._unavailable_as_jobs())
        )

    def _unavailable_on_running_cluster(self, case: Case) -> str | None:
        if self.cluster_info is None or self.cluster_info.problem:
            return self.cluster_info.problem if self.cluster_info else None
        try:
            assign(case, self.cluster_info.worker_infos)
        except UnsuitableCluster as problem:
            return str(problem)
        return None

    def _unavailable_as_jobs(self) -> str | None:
        return (
            None if shutil.which("sbatch") else "no sbatch on this machine: run the harness where Slurm's commands are"
        )

    @property
    def _running_cluster(self) -> SchedulerAddress:
        return SchedulerAddress(address=self.chosen.address or "", tls=self.chosen.tls)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        plan = {
            "scheduler": self.chosen.address or self.chosen.jobqueue,
            "tls": None if self.chosen.tls is None else self.chosen.tls.model_dump(),
            "tasks": planned_tasks(case),
            "ranks": [{"rank": rank, "host": rank // case.ranks_on_a_node} for rank in range(case.ranks)],
        }
        if not self.chosen.jobqueue:
            return {"plan.json": json.dumps(plan, indent=2) + "\n"}
        plan["jobs"] = {"specification": JOBS_FILE, "print_job_script": f"{PRINT_JOB_SCRIPT} < {JOBS_FILE}"}
        spec = job_queue_spec([case], self.chosen)
        return {"plan.json": json.dumps(plan, indent=2) + "\n", JOBS_FILE: spec.model_dump_json() + "\n"}

    def reserve(self, cases: Sequence[Case]) -> None:
        self.reserved = tuple(cases)

    def start(self, request: TrialRequest) -> Job:
        try:
            return DaskJob(request.case, request.folder, self._cluster_for(request))
        except ClusterUnavailable as problem:
            return UnstartedJob(str(problem))

    def _cluster_for(self, request: TrialRequest) -> SchedulerAddress:
        """The cluster of a trial; starts one where that is needed. Raises :class:`ClusterUnavailable`."""
        if self.chosen.address:
            return self._running_cluster
        logs = (request.folder.parent / "dask-jobs").resolve()
        spec = job_queue_spec((*self.reserved, request.case), self.chosen, logs)
        if self.jobs is None or not covers(self.jobs.spec, spec):
            self._end_jobs()
            logs.mkdir(exist_ok=True)
            self.jobs = JobQueueCluster(spec, logs / "scheduler.log", share_sources(logs.parent))
            atexit.register(self._end_jobs)
            try:
                with interrupts_allowed():
                    self.jobs_address = self.jobs.wait_for_address()
            except BaseException:
                self._end_jobs()
                raise
        return self.jobs_address

    def _end_jobs(self) -> None:
        if self.jobs is not None:
            self.jobs.end()
            self.jobs = None


SITE = DaskSite()
