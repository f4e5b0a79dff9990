"""The fingerprint of a machine, its versions and the code's commit. It loads no framework."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable
from typing import Any

from bench.core.machine import MachineFacts
from bench.host.installation import torch_cuda_version
from bench.host.machine import host_name, read_gpus, read_machine_facts
from bench.host.resources import usable_core_count
from bench.host.running_code import sources_digest
from bench.plugins.registry import BACKENDS
from harness.planning.git import OWN_REPOSITORY, Repository, read_code_state
from harness.planning.placements import Machine

MACHINE_VARIABLE = "SCALING_MACHINE"
"""The environment variable that names the machine where host names change, as those of CI runners do."""
DISTRIBUTION = "scaling-harness"
"""The name of this project among the packages of sweeps whose commit is that of a user's repository."""


class Environment(MachineFacts):
    """Where a trial ran. Trials of the same :attr:`id` are comparable."""

    commit: str | None
    changed_files: bool | None
    commit_reason: str | None = None
    """Why the commit is unknown, with the remedy where there is one."""
    repository: str | None = None
    """The folder of the user's repository whose commit it is; ``None``: the commit is that of this project."""

    @property
    def id(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude=self._absent).encode()).hexdigest()[:12]

    @property
    def machine(self) -> str:
        """For people: ``node7: AMD EPYC 7763, 64 cores``."""
        return f"{self.host}: {self.cpu}, {self.cores} cores{self.quota_note}"

    @property
    def place(self) -> dict[str, str]:
        """Machine and versions by name: what must be the same before sweeps of two commits are compared."""
        machine = self.model_dump(exclude={"gpus", "packages", "commit", "changed_files", "repository"} | self._absent)
        gpus = {"GPUs": ", ".join(self.gpus) or "none"}
        return {name: str(value) for name, value in machine.items()} | gpus | self.packages

    @property
    def _absent(self) -> set[str]:
        """Fields that are no part of what is compared, or that older environments did not have."""
        optional = {"cpu_quota_cores": self.cpu_quota_cores, "repository": self.repository}
        return {"commit_reason"} | {name for name, value in optional.items() if value is None}


def read_environment(repository: Repository = OWN_REPOSITORY) -> Environment:
    """This machine, the versions of the packages that backends name, and the commit of what is measured.

    Args:
        repository: That of what is measured; of a user's own, this project is one of the packages.
    """
    own = repository == OWN_REPOSITORY
    code = read_code_state() if own else repository.state()
    backends = BACKENDS.load_all()[0].values()
    packages = sorted({package for backend in backends for package in backend.packages})
    facts = _named_facts(packages)
    if not own:
        facts["packages"] = {**facts["packages"], DISTRIBUTION: read_own_version()}
    return Environment(
        **facts,
        commit=code.commit,
        changed_files=code.changed_files,
        commit_reason=code.reason,
        repository=None if own else str(repository.root),
    )


def machine_name() -> str:
    """This machine as :attr:`Environment.machine` of its trials."""
    return Environment(**_named_facts(()), commit=None, changed_files=None).machine


def machine_host() -> str:
    """The name of this machine, as :attr:`Environment.host`."""
    return os.environ.get(MACHINE_VARIABLE) or host_name()


def _named_facts(packages: Iterable[str]) -> dict[str, Any]:
    return read_machine_facts(packages).model_dump() | {"host": machine_host()}


def read_own_version() -> str:
    """The version of this project; of a checkout, its commit."""
    commit = read_code_state().commit
    if commit is not None:
        return f"commit {commit}"
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return f"sources {sources_digest()}"


def read_machine() -> Machine:
    """The facts of this machine that a plan needs."""
    return Machine(cores=usable_core_count(), gpus=len(read_gpus()), cuda_torch=torch_cuda_version() is not None)
