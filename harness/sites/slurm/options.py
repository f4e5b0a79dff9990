"""The options of ``--site slurm``, validated before they are used, and its time limits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from bench.core.case import Case
from harness.sites.base.contract import SiteOptions
from harness.sites.base.remote import MARGIN_S
from harness.sites.base.sbatch_options import SAFE_SBATCH_OPTIONS, check_sbatch_options

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*$"
NAMES_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*(,[A-Za-z0-9_][A-Za-z0-9_.@+-]*)*$"


class SlurmOptions(SiteOptions):
    partition: str | None = Field(
        None, pattern=NAMES_PATTERN, description="of the jobs; several (a,b): the one that starts first"
    )
    account: str | None = Field(None, pattern=NAME_PATTERN, description="that the jobs are billed to")
    qos: str | None = Field(None, pattern=NAME_PATTERN, description="quality of service of the jobs")
    constraint: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.,&|*()\[\]+-]+$", description="features that the nodes must have, such as a100&ib"
    )
    gpus_per_node: str | None = Field(
        None,
        pattern=r"^([A-Za-z0-9_.-]+:)?[0-9]{1,3}$",
        description="4 or a100:4; default: one for each rank on cuda",
    )
    memory: str | None = Field(None, pattern=r"^[0-9]+[KMGT]?$", description="of each node, such as 64G; 0: all of it")
    exclusive: bool = Field(False, description="share no node with other jobs")
    time_limit_min: int | None = Field(
        None, gt=0, description="of a job; default: the time limits of its trials and a margin"
    )
    queue_timeout_s: float = Field(86400, gt=0, description="how long a job may wait in the queue")
    patience_s: float = Field(
        60, ge=0, description="how long a job may wait for what will not happen by itself, such as a node that is down"
    )
    pack: bool = Field(False, description="one job for all trials of a round, which queues once")
    mpi: str = Field("pmix", pattern=r"^pmix(_v[0-9])?$", description="how srun wires up MPI ranks (srun --mpi=list)")
    interface: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$",
        description="network interface of the ranks; default: the one with the route to the first node",
    )
    python: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_./~][A-Za-z0-9_./~+-]*$",
        description="Python interpreter on the nodes; default: this one, or the container's",
    )
    container: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_/.][A-Za-z0-9_./:@#+-]*$", description="image that the ranks run in"
    )
    container_by: Literal["pyxis", "apptainer"] = Field(
        "pyxis", description="pyxis: srun --container-image; apptainer: apptainer exec"
    )
    extra: str = Field("", description="further options of sbatch, such as --reservation=night --nodelist=n[1-4]")

    @field_validator("extra")
    @classmethod
    def _only_safe_options(cls, text: str) -> str:
        return check_sbatch_options(text, SAFE_SBATCH_OPTIONS)

    @property
    def gpus(self) -> int | None:
        """GPUs of each node; ``None`` where the option is not set."""
        return int(self.gpus_per_node.rpartition(":")[2]) if self.gpus_per_node else None

    @property
    def rank_python(self) -> str:
        """The interpreter that agents and ranks run under."""
        return self.python or ("python" if self.container else sys.executable)


@dataclass(frozen=True)
class SlurmTimeouts:
    """How long Slurm, the nodes and the shared disk may take, in seconds."""

    startup_s: float = 60.0
    """For the nodes to start Python, before a trial's own time begins."""
    report_s: float = MARGIN_S
    """For the nodes to report, after a trial's own time."""
    grace_s: float = 15.0
    """How much later than the script the harness ends a trial that takes too long."""
    leave_queue_s: float = 5.0
    """For a job to leave the queue, and for the reports of nodes that srun has seen end."""
    file_delay_s: float = 30.0
    """For the reports of other nodes: a shared disk may show them that late."""
    command_s: float = 60.0
    """For one of Slurm's commands to answer."""
    poll_s: float = 0.1
    """Between two looks at a trial's folder."""

    def step_limit_s(self, case: Case) -> float:
        """After how many seconds the script kills a trial's step."""
        return self.startup_s + case.timeout_s + self.report_s
