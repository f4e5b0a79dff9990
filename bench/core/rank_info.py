"""The rank and world size of a process, read from the environment variables that its launcher sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class RankInfo:
    """A process's rank and world size, its local rank on its machine, and the address at which rank 0 listens."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    rendezvous_host: str
    rendezvous_port: int
    own_host: str | None = None
    """The address at which the other ranks reach this process; ``None``: that of rank 0."""


class LauncherVariables(NamedTuple):
    """The names of the variables by which one launcher identifies its ranks."""

    rank: str
    world: str
    local_rank: str
    local_world: str


# The first launcher whose rank variable is set wins. mpirun comes first: it passes on the environment of its parent,
# which may hold a RANK. srun comes last: ranks inherit the variables of the process that srun started on their node.
LAUNCHER_VARIABLES: dict[str, LauncherVariables] = {
    "openmpi": LauncherVariables(
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"
    ),
    "torchrun": LauncherVariables("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "horovodrun": LauncherVariables("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"),
    "slurm": LauncherVariables("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
}


def read_rank_info(env: Mapping[str, str]) -> RankInfo:
    """Read the rank of this process from its environment; without a launcher it is rank 0 of 1."""
    host, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
    own_host = env.get("OWN_ADDR")
    for names in LAUNCHER_VARIABLES.values():
        if names.rank in env:
            rank, world = int(env[names.rank]), int(env.get(names.world, "1"))
            local_rank = int(env.get(names.local_rank, env[names.rank]))
            return RankInfo(rank, world, local_rank, int(env.get(names.local_world, world)), host, port, own_host)
    return RankInfo(0, 1, 0, 1, host, port, own_host)
