"""The processes of :mod:`bench.dask_cluster` that the harness starts: it never imports Dask itself.

One describes a cluster, one keeps a cluster of queued jobs, and one is the client of a trial. Each reads one line of
JSON from standard input, and ends when that is closed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.backends.dask.cluster_ref import SchedulerAddress
from bench.core.case import Case
from bench.dask_cluster.cluster import ClusterInfo, ClusterStartResult, JobQueueSpec
from bench.dask_cluster.trial import CLIENT_REPORT_FILE, ClientReport
from bench.host.commands import CommandTimeout, run_command
from bench.host.logs import last_lines
from bench.host.processes import describe_status, process_state
from bench.host.variables import cleaned_environment
from harness.planning.source_copy import python_path
from harness.sites.base.contract import Job, TrialResult
from harness.sites.base.remote import MARGIN_S, gather_result, read_node_reports

SURVEY_TIMEOUT_S = 60.0
MAX_SURVEY_BYTES = 2**26
EXIT_TIMEOUT_S = 20.0
LOG_LINES = 20
STOPPED = "was stopped by a signal"


class ClusterUnavailable(Exception):
    """There is no cluster to run on. The text says why, in one line."""


def start_process(
    module: str, *arguments: str, request: BaseModel, log: Path | None = None, sources: Path | None = None
) -> subprocess.Popen[str]:
    """Start a module of the bench package; it ends when its standard input is closed, and so with this process.

    It has a session of its own: an interrupt from the keyboard does not reach it, and it can release what it holds.

    Args:
        module: The module's name, as for ``python -m``.
        arguments: Its command line.
        request: The first line of its standard input, as JSON.
        log: The file that its standard error is appended to; ``None`` discards it.
        sources: The folder of the packages that it, and what it starts, import; ``None``: where this process has them.
    """
    errors = subprocess.DEVNULL if log is None else log.open("a")
    env = os.environ | ({"PYTHONPATH": python_path(sources, os.environ)} if sources else {})
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        # Workers of queued jobs inherit it: sbatch passes it on.
        env=cleaned_environment(env, inside_job=True),
        text=True,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    if not isinstance(errors, int):
        errors.close()
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        print(request.model_dump_json(), file=process.stdin, flush=True)
    return process


def end_process(process: subprocess.Popen[str]) -> None:
    """Close its standard input and wait for its end; kill it after :data:`EXIT_TIMEOUT_S`."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        # One that is stopped by a signal notices nothing.
        process.wait(0 if process_state(process.pid) == "stopped" else EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def survey_cluster(cluster: SchedulerAddress, timeout_s: float = SURVEY_TIMEOUT_S) -> ClusterInfo:
    """Describe a cluster that is running. The result's ``problem`` says why it can't be used, if it can't."""
    command = [sys.executable, "-m", "bench.dask_cluster.cluster", "survey"]
    env, text = cleaned_environment(os.environ, inside_job=True), cluster.model_dump_json() + "\n"
    try:
        done = run_command(command, timeout_s, text=text, env=env, max_bytes=MAX_SURVEY_BYTES)
    except CommandTimeout:
        return ClusterInfo(problem=f"{cluster.address} did not answer within {timeout_s:g} s")
    if done.returncode:
        return ClusterInfo(problem=f"python {' '.join(command[1:])} ended with status {done.returncode}")
    try:
        return ClusterInfo.model_validate_json(done.stdout)
    except ValidationError:
        return ClusterInfo(problem=f"{cluster.address} sent an answer that can't be read")


class JobQueueCluster:
    """A cluster of queued jobs; it exists as long as this object is not ended, and no longer than this process."""

    def __init__(self, spec: JobQueueSpec, log: Path, sources: Path) -> None:
        self.spec, self.log = spec, log
        self.process = start_process("bench.dask_cluster.cluster", "keep", request=spec, log=log, sources=sources)

    def wait_for_address(self) -> SchedulerAddress:
        """Wait until all workers have started; returns how it is reached. Raises :class:`ClusterUnavailable`."""
        assert self.process.stdout is not None
        # A process that is stopped or hangs says nothing: its end unblocks the pipe.
        killer = threading.Timer(self.spec.start_s + SURVEY_TIMEOUT_S, self.process.kill)
        killer.daemon = True
        killer.start()
        line = self.process.stdout.readline(MAX_SURVEY_BYTES)
        killer.cancel()
        try:
            start_result = ClusterStartResult.model_validate(json.loads(line))
        except ValueError:
            raise ClusterUnavailable(f"no Dask cluster could be started; see {self.log}") from None
        if start_result.problem:
            raise ClusterUnavailable(start_result.problem)
        return SchedulerAddress(address=start_result.address, tls=start_result.tls)

    def end(self) -> None:
        end_process(self.process)


class DaskJob(Job):
    """One trial on a cluster: a process that is its client (:mod:`bench.dask_cluster.trial`)."""

    def __init__(self, case: Case, folder: Path, cluster: SchedulerAddress) -> None:
        self.case, self.folder, self.log = case, folder, folder / "client.log"
        case_file = folder / "case.json"
        case_file.write_text(case.model_dump_json())
        arguments = ("--case", str(case_file), "--out", str(folder))
        self.process = start_process("bench.dask_cluster.trial", *arguments, request=cluster, log=self.log)

    def wait(self, timeout_s: float) -> TrialResult:
        timed_out = False
        try:
            self.process.wait(timeout_s + MARGIN_S)
        except subprocess.TimeoutExpired:
            timed_out = True
        stopped = process_state(self.process.pid) == "stopped"
        self.cancel()
        result = self._result(timed_out=timed_out)
        if stopped:
            return replace(result, outcome="failed", reason=f"the Dask client {STOPPED}; {result.reason}")
        return result

    @property
    def own_logs(self) -> Sequence[Path]:
        return (self.log,)

    def cancel(self) -> None:
        end_process(self.process)

    def _result(self, *, timed_out: bool) -> TrialResult:
        path = self.folder / CLIENT_REPORT_FILE
        report = ClientReport.model_validate_json(path.read_text()) if path.exists() else self._client_failure()
        result = gather_result(self.folder, self.case, timed_out=timed_out, log_tail=report.log_tail)
        if report.problem and not timed_out and (result.outcome == "ok" or not read_node_reports(self.folder)):
            return replace(result, outcome="failed", reason=report.problem)
        return result

    def _client_failure(self) -> ClientReport:
        """What is known of a client that ended without a report."""
        log_lines = last_lines(self.log, LOG_LINES)
        status, last_line = self.process.returncode, log_lines[-1] if log_lines else "its log is empty"
        return ClientReport(
            problem=f"the Dask client {describe_status(status)}: {last_line}",
            log_tail=tuple(f"client: {line}" for line in log_lines),
        )
