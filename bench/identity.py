"""Who am I among the ranks? One table of variable names per launcher, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """A process's place: its rank of ``world``, its place on its host, and where rank 0 is met."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    meeting_host: str
    meeting_port: int
    own_host: str | None = None
    """Where the others reach this process; ``None``: where rank 0 is met."""


# Variable names for rank, world size, local rank, local world size; the first launcher whose rank is set wins.
# Open MPI comes first: mpirun hands the environment of its parent on, and that may hold a RANK of its own.
LAUNCHERS: dict[str, tuple[str, str, str, str]] = {
    "openmpi": (
        "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
}  # fmt: skip


def identify(env: Mapping[str, str]) -> Identity:
    """Read the place of this process from its environment; without a launcher it is rank 0 of 1."""
    host, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
    own = env.get("OWN_ADDR")
    for rank, world, local_rank, local_world in LAUNCHERS.values():
        if rank in env:
            size = int(env.get(world, "1"))
            place = int(env.get(local_rank, env[rank]))
            return Identity(int(env[rank]), size, place, int(env.get(local_world, size)), host, port, own)
    return Identity(0, 1, 0, 1, host, port, own)
