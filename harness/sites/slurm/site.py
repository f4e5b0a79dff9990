"""Slurm: each trial is a batch job, or each round where ``slurm.pack`` is set. Only Slurm's command line tools are
needed.

A trial's folder is on a disk that the nodes share with this machine, and the files that they leave there tell how it
ended. Slurm is queried for the rest: why a job waits, whether a node or the job is gone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate, write_certificate
from bench.host.installation import torch_cuda_version
from bench.plugins.backend import Options
from harness.planning.placements import Machine
from harness.planning.source_copy import python_path, share_sources
from harness.sites.base.contract import Job, Site, TrialRequest
from harness.sites.base.remote import UnstartedJob, needs_certificate
from harness.sites.slurm.batch_script import ROUND_LOG, SCRIPT_LOG, SLURM_LAUNCHERS, batch_script
from harness.sites.slurm.client import (
    SlurmClient,
    SlurmJobState,
    SlurmUnavailable,
    SubmissionRejected,
    submission_environment,
)
from harness.sites.slurm.job import SlurmJob, Submission, has_begun
from harness.sites.slurm.options import SlurmOptions, SlurmTimeouts

SLURM_COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol", "srun")


class SlurmSite(Site):
    name = "slurm"
    summary = "batch jobs of a Slurm cluster that shares a disk with this machine"
    options = SlurmOptions
    launchers = SLURM_LAUNCHERS
    chosen: SlurmOptions

    def __init__(self, chosen: Options | None = None, timeouts: SlurmTimeouts = SlurmTimeouts()) -> None:
        super().__init__(chosen)
        self.timeouts, self.client = timeouts, SlurmClient(timeouts.command_s)
        self._submissions: dict[str, Submission] = {}
        self._modules: tuple[str, ...] = ()
        """What ranks of the sweep import beside the frameworks."""
        self.shares_environment = self.chosen.rank_python == sys.executable

    def machine(self) -> Machine:
        # The torch of another interpreter or of a container can't be examined from here.
        cuda_torch = not self.shares_environment or torch_cuda_version() is not None
        return Machine(
            site=self.name,
            multi_node=True,
            cores=None,
            gpus=self.chosen.gpus,
            cuda_torch=cuda_torch,
            ranks_per_gpu=self.chosen.ranks_per_gpu,
        )

    def missing_dependency(self) -> str | None:
        missing = [tool for tool in SLURM_COMMANDS if shutil.which(tool) is None]
        remedy = "run on a login node of the cluster, or install Slurm's client commands"
        return f"no {', '.join(missing)} here: {remedy}" if missing else None

    def unavailable_reason(self, case: Case) -> str | None:
        if missing_dependency := self.missing_dependency():
            return missing_dependency
        if case.net is not None:
            return "the links of a cluster can't be shaped: leave --net out"
        return None

    def launcher_unavailable_reason(self, launcher: str) -> str | None:
        if launcher == "srun" and (problem := self.client.mpi_unavailable_reason(self.chosen.mpi)):
            return f"{problem}; choose another by --set slurm.mpi=…, or another transport or launcher"
        return None

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        return {
            "job.sh": batch_script(
                self.chosen, [TrialRequest(case, roles, Path("trial"))], f"trial/{SCRIPT_LOG}", self.timeouts
            )
        }

    def warm(self, modules: tuple[str, ...]) -> None:
        self._modules = modules

    def start(self, trial: TrialRequest) -> Job:
        return self._submit([trial], f"{trial.folder.name}/{SCRIPT_LOG}")[0]

    @property
    def submits_rounds(self) -> bool:
        return self.chosen.pack

    def submit_round(self, trials: Sequence[TrialRequest]) -> list[Job]:
        return self._submit(trials, ROUND_LOG)

    def reattach(self, trial: TrialRequest, handle: str) -> Job | None:
        if not handle.isdigit():
            return None
        try:
            state = self.client.query_job(handle)
        except SlurmUnavailable:
            state = SlurmJobState("PENDING")
        if state.over and not has_begun(trial.folder):
            return None
        submission = self._submissions.setdefault(handle, Submission(handle, shared=self.submits_rounds))
        return SlurmJob(trial, submission, self.chosen, self.client, self.timeouts)

    def _submit(self, trials: Sequence[TrialRequest], output: str) -> list[Job]:
        for case, roles, folder in trials:
            (folder / "case.json").write_text(case.model_dump_json())
            if needs_certificate(case, roles):
                write_certificate(create_certificate(), folder)
        first = trials[0].folder.resolve()
        text = batch_script(self.chosen, trials, output, self.timeouts, self._modules)
        (first / "job.sh").write_text(text)
        # A job starts in the folder from which it was submitted, and that may hold packages of our names.
        extra_variables = {"PYTHONSAFEPATH": "1"}
        if self.shares_environment:
            extra_variables["PYTHONPATH"] = python_path(share_sources(first.parent), os.environ)
        elif "PYTHONPATH" in os.environ:
            # Another interpreter, or an image, has this package installed.
            extra_variables["PYTHONPATH"] = python_path(None, os.environ)
        env = submission_environment(os.environ, text, extra_variables)
        try:
            number = self.client.submit(first / "job.sh", first.parent, f"scaling-{first.name}", env)
        except SubmissionRejected as problem:
            return [UnstartedJob(f"Slurm did not accept the job: {problem}") for _ in trials]
        submission = Submission(number, shared=len(trials) > 1)
        return [SlurmJob(trial, submission, self.chosen, self.client, self.timeouts) for trial in trials]


SITE = SlurmSite()
