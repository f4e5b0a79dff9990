"""What the launchers of programs have in common. No backend.

Such a backend gives each rank of a program the environment that its launcher would give it, and has no session: the
program joins the other ranks by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from bench.core.case import ANY_TRANSPORT, Case, Role
from bench.core.rank_info import RankInfo
from bench.plugins.backend import Backend, Session

TORCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
THREADS_VARIABLE = "OMP_NUM_THREADS"


class ProgramLauncher(Backend):
    """Starts the ranks of a user's program as a launcher of that name does."""

    starts_programs = True
    transports = {"cpu": (ANY_TRANSPORT,), "cuda": (ANY_TRANSPORT,)}  # noqa: RUF012 - declared read-only by the contract

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks),)

    def session(self, case: Case, me: RankInfo) -> AbstractContextManager[Session]:
        raise NotImplementedError(f"{self.name} starts programs, which join the other ranks by themselves")


def common_variables(case: Case, env: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of a program's ranks under any launcher (pure).

    Each rank computes with the planned threads unless the user says otherwise: a library would take all cores for each
    rank. A program that computes on a GPU where there is one finds none where the plan is to measure CPUs.

    Args:
        case: A case with a program.
        env: The environment variables that the rank inherited.
    """
    own_addr: dict[str, str | None] = {"OWN_ADDR": None}
    threads = {} if THREADS_VARIABLE in env else {THREADS_VARIABLE: str(case.threads)}
    return own_addr | threads | ({"CUDA_VISIBLE_DEVICES": ""} if case.device == "cpu" else {})
