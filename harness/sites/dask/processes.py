"""Whatever of the harness talks to Dask is a process of :mod:`bench`; here is how the harness talks to those."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.backends.dask.cluster_ref import SchedulerAddress
from bench.dask_cluster.cluster import ClusterInfo, ClusterStartResult, JobQueueSpec

ANSWER_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 20.0


class ClusterUnavailable(Exception):
    """There is none to run on. The text says why, in one line."""


def start(module: str, *arguments: str, asked: BaseModel, log: Path | None = None) -> subprocess.Popen[str]:
    """A process that lives no longer than this one: it notices when its standard input is closed. Its own session keeps
    an interrupt from the keyboard away, so that it can end in good order."""
    errors = subprocess.DEVNULL if log is None else log.open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
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
        print(asked.model_dump_json(), file=process.stdin, flush=True)
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Let it end what it has started; after a while end it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def run_cluster_command(command: str, asked: BaseModel, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """What ``bench.dask_cluster.cluster`` says. Raises :class:`ClusterUnavailable`."""
    process = start("bench.dask_cluster.cluster", command, asked=asked)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise ClusterUnavailable(f"no answer within {timeout_s:g} s") from None
    if process.returncode:
        raise ClusterUnavailable(
            f"python -m bench.dask_cluster.cluster {command} ended with status {process.returncode}"
        )
    return output


def inspect_running_cluster(cluster: SchedulerAddress) -> ClusterInfo:
    """Raises :class:`ClusterUnavailable`."""
    try:
        return ClusterInfo.model_validate_json(run_cluster_command("survey", cluster))
    except ValidationError:
        raise ClusterUnavailable(f"{cluster.address} was not understood") from None


class JobQueueCluster:
    """A cluster started as jobs of a queueing system, as long as this process wants it."""

    def __init__(self, jobs: JobQueueSpec, log: Path) -> None:
        self.jobs, self.log = jobs, log
        self.process = start("bench.dask_cluster.cluster", "keep", asked=jobs, log=log)

    def address(self) -> str:
        """Where it is; waits for its workers. Raises :class:`ClusterUnavailable`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            start_result = ClusterStartResult.model_validate(json.loads(line))
        except ValueError:
            raise ClusterUnavailable(f"no Dask cluster could be started; see {self.log}") from None
        if start_result.problem:
            raise ClusterUnavailable(start_result.problem)
        return start_result.address

    def end(self) -> None:
        end(self.process)


def trial_arguments(folder: Path) -> Sequence[str]:
    """Of the process that runs a trial."""
    return ("--case", str(folder / "case.json"), "--out", str(folder))
