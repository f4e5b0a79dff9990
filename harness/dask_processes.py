"""Whatever of the harness talks to Dask is a process of :mod:`bench`; here is how the harness talks to those."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.dask_client import Cluster
from bench.dask_cluster import Jobs, Started, Survey

ANSWER_S = 60.0
END_S = 20.0


class NoCluster(Exception):
    """There is none to run on. The text says why, in one line."""


def start(module: str, *arguments: str, asked: BaseModel, log: Path | None = None) -> subprocess.Popen[str]:
    """A process that lives no longer than this one: it notices when its standard input is closed. Its own session keeps
    an interrupt from the keyboard away, so that it can end in good order."""
    errors = subprocess.DEVNULL if log is None else log.open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], text=True, start_new_session=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=errors,
    )  # fmt: skip
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
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def answer(what: str, asked: BaseModel, timeout_s: float = ANSWER_S) -> str:
    """What ``bench.dask_cluster`` says. Raises :class:`NoCluster`."""
    process = start("bench.dask_cluster", what, asked=asked)
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise NoCluster(f"no answer within {timeout_s:g} s") from None
    if process.returncode:
        raise NoCluster(f"python -m bench.dask_cluster {what} ended with status {process.returncode}")
    return said


def ask_cluster(cluster: Cluster) -> Survey:
    """Raises :class:`NoCluster`."""
    try:
        return Survey.model_validate_json(answer("survey", cluster))
    except ValidationError:
        raise NoCluster(f"{cluster.address} was not understood") from None


class KeptJobs:
    """A cluster started as jobs of a queueing system, as long as this process wants it."""

    def __init__(self, jobs: Jobs, log: Path) -> None:
        self.jobs, self.log = jobs, log
        self.process = start("bench.dask_cluster", "keep", asked=jobs, log=log)

    def address(self) -> str:
        """Where it is; waits for its workers. Raises :class:`NoCluster`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            told = Started.model_validate(json.loads(line))
        except ValueError:
            raise NoCluster(f"no Dask cluster could be started; see {self.log}") from None
        if told.problem:
            raise NoCluster(told.problem)
        return told.address

    def end(self) -> None:
        end(self.process)


def arguments_of(folder: Path) -> Sequence[str]:
    """Of the process that runs a trial."""
    return ("--case", str(folder / "case.json"), "--out", str(folder))
