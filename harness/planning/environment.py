"""Fingerprint of machine and versions. It reads what is installed and loads no framework."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from bench.core.machine import MachineFacts
from bench.host.installation import torch_cuda_version
from bench.host.machine import read_gpus, read_machine_facts
from bench.host.resources import usable_core_count
from harness.planning.placements import Machine

MACHINE_VARIABLE = "SCALING_MACHINE"
"""Names the machine where its host name is another one each time: runners of one kind are then one machine."""


class Environment(MachineFacts):
    """Where a trial ran. Two trials with the same :attr:`id` may be compared without a thought."""

    commit: str | None
    changed_files: bool | None

    @property
    def id(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def machine(self) -> str:
        """For people: ``node7: AMD EPYC 7763, 64 cores``."""
        return f"{self.host}: {self.cpu}, {self.cores} cores"

    @property
    def place(self) -> dict[str, str]:
        """What must be the same before sweeps of two commits may be compared, by name: machine and versions."""
        machine = self.model_dump(exclude={"gpus", "packages", "commit", "changed_files"})
        gpus = {"GPUs": ", ".join(self.gpus) or "none"}
        return {name: str(value) for name, value in machine.items()} | gpus | self.packages


def read_environment() -> Environment:
    commit, changed = _read_git()
    facts = read_machine_facts().model_dump()
    return Environment(
        **facts
        | {"host": os.environ.get(MACHINE_VARIABLE) or facts["host"], "commit": commit, "changed_files": changed}
    )


def read_machine() -> Machine:
    """What the plan needs, in a few milliseconds."""
    return Machine(cores=usable_core_count(), gpus=len(read_gpus()), cuda_torch=torch_cuda_version() is not None)


def _read_git() -> tuple[str | None, bool | None]:
    """The commit of the code that ran, and whether files differ from it; unknown outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(status.strip())
