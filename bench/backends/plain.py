"""A program started by itself: ``python train.py``, one process without the variables of a launcher."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.programs import TORCH_VARIABLES, ProgramLauncher, common_variables
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
        yield common_variables(case, os.environ) | dict.fromkeys(TORCH_VARIABLES)


BACKEND = Plain()
