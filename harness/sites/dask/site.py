"""A Dask cluster as an engine: one that is running already, or one started as Slurm jobs for the sweep."""

from __future__ import annotations

import atexit
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bench.backends.dask.cluster_ref import SchedulerAddress, Tls
from bench.core.case import Case, Role
from bench.dask_cluster.assignment import UnsuitableCluster, assign, threads_needed
from bench.dask_cluster.cluster import ClusterInfo, JobQueueSpec
from bench.dask_cluster.trial import CLIENT_REPORT_FILE, ClientReport
from bench.plugins.backend import Options
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult
from harness.sites.base.diagnosis import last_lines
from harness.sites.base.remote import MARGIN_S, UnstartedJob, gather_result, read_node_ends
from harness.sites.dask import processes
from harness.sites.dask.processes import ClusterUnavailable, JobQueueCluster
from harness.sites.slurm.batch_script import SAFE_SBATCH_OPTIONS, check_sbatch_options

ADDRESS_PATTERN = r"^(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,-]*$"
PATH_PATTERN = r"^[A-Za-z0-9_./~+@-]+$"
SAFE_DIRECTIVES = {*SAFE_SBATCH_OPTIONS, "constraint", "gpus-per-node", "qos"}
"""For these the slurm site has options of their own, which check them more closely."""
PROCESS_FAULTS = ("kill", "stop", "oom", "exit")
"""Faults that would hit the cluster's own worker where it holds the rank itself."""
DASK_BACKEND_ONLY = "a Dask cluster runs the dask backend only: --backends dask"
NO_CLUSTER_NAMED = "no Dask cluster is named: --set dask.address=tcp://HOST:8786, or --set dask.jobqueue=slurm"
LOG_LINES = 20


class DaskSiteOptions(Options):
    address: str | None = Field(None, pattern=ADDRESS_PATTERN, description="the scheduler of a cluster that is running")
    tls_ca: str | None = Field(None, pattern=PATH_PATTERN, description="path of the certificate authority's PEM file")
    tls_cert: str | None = Field(None, pattern=PATH_PATTERN, description="path of this side's certificate")
    tls_key: str | None = Field(None, pattern=PATH_PATTERN, description="path of this side's private key")
    jobqueue: Literal["slurm"] | None = Field(None, description="start a cluster as jobs of this system for the sweep")
    queue: str | None = Field(
        None, pattern=NAME_PATTERN, coerce_numbers_to_str=True, description="partition of the jobs"
    )
    account: str | None = Field(
        None, pattern=NAME_PATTERN, coerce_numbers_to_str=True, description="whom the jobs are billed"
    )
    walltime: str = Field("01:00:00", pattern=r"^(\d+-)?\d{1,2}:\d\d:\d\d$", description="how long the jobs may last")
    memory: str = Field(
        "0",
        pattern=r"^\d+[KMGT]?$",
        coerce_numbers_to_str=True,
        description="memory of a job as Slurm writes it; 0: all that its node has",
    )
    exclusive: bool = Field(True, description="each job has a node to itself, so that ranks are where they are said")
    directives: str = Field("", description="further #SBATCH lines, such as --qos=long --exclude=n7")
    interface: str | None = Field(
        None, pattern=NAME_PATTERN, description="network interface of scheduler and workers, by name"
    )
    python: str = Field(sys.executable, pattern=PATH_PATTERN, description="Python of the jobs")
    start_s: float = Field(600.0, gt=0, description="how long the jobs may wait in the queue")

    @field_validator("directives")
    @classmethod
    def _known_to_be_safe(cls, text: str) -> str:
        return check_sbatch_options(text, SAFE_DIRECTIVES)

    @model_validator(mode="after")
    def _agrees(self) -> DaskSiteOptions:
        tls_paths = [self.tls_ca, self.tls_cert, self.tls_key]
        if any(tls_paths) and not all(tls_paths):
            raise ValueError("tls_ca, tls_cert and tls_key belong together")
        if self.address and self.jobqueue:
            raise ValueError("address names a running cluster, jobqueue starts one: leave one of them out")
        if self.address and (self.address.startswith("tls://") != all(tls_paths)):
            raise ValueError("an address tls://… goes with tls_ca, tls_cert and tls_key, and they with it")
        return self

    @property
    def tls(self) -> Tls | None:
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        return Tls(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)


def jobs_for(cases: Sequence[Case], options: DaskSiteOptions) -> JobQueueSpec:
    """The jobs that can hold any of these cases: a host a node, a worker a rank (pure)."""
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
        tls=options.tls,
        start_s=options.start_s,
    )


def covers(jobs: JobQueueSpec, other: JobQueueSpec) -> bool:
    """Whether a cluster of these jobs serves whoever asks for the others (pure)."""
    return all(getattr(jobs, name) >= getattr(other, name) for name in ("count", "workers", "threads", "cores"))


class DaskJob(Job):
    """One trial on the cluster: a process that is its client."""

    def __init__(self, case: Case, folder: Path, cluster: SchedulerAddress) -> None:
        self.case, self.folder, self.log = case, folder, folder / "client.log"
        (folder / "case.json").write_text(case.model_dump_json())
        arguments = processes.trial_arguments(folder)
        self.process = processes.start("bench.dask_cluster.trial", *arguments, asked=cluster, log=self.log)

    def wait(self, timeout_s: float) -> TrialResult:
        timed_out = False
        try:
            self.process.wait(timeout_s + MARGIN_S)
        except subprocess.TimeoutExpired:
            timed_out = True
        self.cancel()
        return self._ending(timed_out=timed_out)

    def _ending(self, *, timed_out: bool) -> TrialResult:
        path = self.folder / CLIENT_REPORT_FILE
        told = ClientReport.model_validate_json(path.read_text()) if path.exists() else self._client_failure()
        ending = gather_result(self.folder, self.case, timed_out=timed_out, log_tail=told.log_tail)
        if told.problem and not timed_out and (ending.outcome == "ok" or not read_node_ends(self.folder)):
            return replace(ending, outcome="failed", reason=told.problem)
        return ending

    def _client_failure(self) -> ClientReport:
        log_lines = last_lines(self.log, LOG_LINES)
        status, last = self.process.returncode, log_lines[-1] if log_lines else "it said nothing"
        return ClientReport(
            problem=f"the Dask client ended with status {status}: {last}",
            log_tail=tuple(f"client: {line}" for line in log_lines),
        )

    def cancel(self) -> None:
        processes.end(self.process)


class DaskSite(Site):
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
        """Of the running cluster: asked once."""
        self.asked: list[Case] = []
        """Cases that a cluster of jobs is to hold."""
        self.jobs: JobQueueCluster | None = None
        self.address = ""
        """Of the cluster of jobs."""

    def missing_dependency(self) -> str | None:
        if self.chosen.jobqueue and importlib.util.find_spec("dask_jobqueue") is None:
            return 'dask_jobqueue not installed: pip install "scaling-harness[slurm]"'
        return super().missing_dependency()

    def missing_option(self) -> str | None:
        return None if self.chosen.address or self.chosen.jobqueue else NO_CLUSTER_NAMED

    def unavailable_reason(self, case: Case) -> str | None:
        if case.backend != "dask":
            return DASK_BACKEND_ONLY
        if missing_option := self.missing_option():
            return missing_option
        if case.net is not None:
            return "networks of a chosen rate are made on this machine only: leave --net out, or --site local"
        if case.transport == "tasks" and case.fault is not None and case.fault.kind in PROCESS_FAULTS:
            return f"{case.fault.kind} would hit the cluster's own worker: --set dask.transport=gloo"
        return self.missing_dependency() or (
            self._unavailable_on_running_cluster(case) if self.chosen.address else self._unavailable_as_jobs(case)
        )

    def _unavailable_on_running_cluster(self, case: Case) -> str | None:
        if self.cluster_info is None:
            try:
                self.cluster_info = processes.inspect_running_cluster(self._running_cluster)
            except ClusterUnavailable as problem:
                self.cluster_info = ClusterInfo(problem=str(problem))
        if self.cluster_info.problem:
            return self.cluster_info.problem
        try:
            assign(case, self.cluster_info.worker_infos)
        except UnsuitableCluster as problem:
            return str(problem)
        return None

    def _unavailable_as_jobs(self, case: Case) -> str | None:
        if shutil.which("sbatch") is None:
            return "no sbatch on this machine: run the harness where Slurm's commands are"
        self.asked.append(case)
        return None

    @property
    def _running_cluster(self) -> SchedulerAddress:
        return SchedulerAddress(address=self.chosen.address or "", tls=self.chosen.tls)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        task_function = (
            "bench.dask_cluster.worker.hold_rank"
            if case.transport == "tasks"
            else "bench.dask_cluster.worker.hold_node"
        )
        tasks = case.ranks if case.transport == "tasks" else case.nodes
        ranks_per_node = case.ranks_on_a_node
        plan = {
            "scheduler": self.chosen.address or self.chosen.jobqueue,
            "tls": None if self.chosen.tls is None else self.chosen.tls.model_dump(),
            "tasks": [
                {"calls": task_function, "host": number // ranks_per_node if case.transport == "tasks" else number}
                for number in range(tasks)
            ],
            "ranks": [{"rank": rank, "host": rank // ranks_per_node} for rank in range(case.ranks)],
        }
        files = {"plan.json": json.dumps(plan, indent=2) + "\n"}
        if self.chosen.jobqueue:
            files["worker.sh"] = processes.run_cluster_command("script", jobs_for([case], self.chosen))
        return files

    def start(self, asked: TrialRequest) -> Job:
        try:
            return DaskJob(asked.case, asked.folder, self._cluster_for(asked))
        except ClusterUnavailable as problem:
            return UnstartedJob(str(problem))

    def _cluster_for(self, asked: TrialRequest) -> SchedulerAddress:
        """Raises :class:`ClusterUnavailable`."""
        if self.chosen.address:
            return self._running_cluster
        self.asked.append(asked.case)
        needed_jobs = jobs_for(self.asked, self.chosen)
        if self.jobs is None or not covers(self.jobs.jobs, needed_jobs):
            self._end_jobs()
            logs = (asked.folder.parent / "dask-jobs").resolve()
            logs.mkdir(exist_ok=True)
            # It stands in the job script unquoted: it is plain, or left out.
            told = (
                needed_jobs.model_copy(update={"logs": str(logs)}) if re.match(PATH_PATTERN, str(logs)) else needed_jobs
            )
            self.jobs = JobQueueCluster(told, logs / "scheduler.log")
            atexit.register(self._end_jobs)
            self.address = self._wait_for_address()
        return SchedulerAddress(address=self.address, tls=self.chosen.tls)

    def _wait_for_address(self) -> str:
        assert self.jobs is not None
        try:
            return self.jobs.address()
        except BaseException:
            self._end_jobs()
            raise

    def _end_jobs(self) -> None:
        if self.jobs is not None:
            self.jobs.end()
            self.jobs = None


SITE = DaskSite()
