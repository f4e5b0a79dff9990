"""A program started by itself: ``python train.py``, one process without a launcher's variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.programs import ProgramLauncher
from bench.core.case import Case
from bench.core.rank_info import RankInfo


class Plain(ProgramLauncher):
    name = "plain"
    summary = "a program of your own, started by itself"
    requires = ()

    def unsupported_reason(self, case: Case) -> str | None:
        if case.ranks != 1:
            return "a program that is started by itself is one rank; choose --launcher torchrun, horovod or mpi"
        return super().unsupported_reason(case)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OWN_ADDR")
        yield dict.fromkeys(names)


BACKEND = Plain()
