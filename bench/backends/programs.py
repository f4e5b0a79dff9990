"""What the launchers of programs have in common. No backend.

Such a backend gives each rank of a program the environment that its launcher would give it, and has no session: the
program joins the other ranks by itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.plugins.backend import Backend, Session

TRANSPORT = "own"
"""The program chooses what carries its gradients."""


class ProgramLauncher(Backend):
    """Starts the ranks of a user's program as a launcher of that name does."""

    starts_programs = True
    transports = {"cpu": (TRANSPORT,), "cuda": (TRANSPORT,)}  # noqa: RUF012 - declared read-only by the contract

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks),)

    def session(self, case: Case, me: RankInfo) -> AbstractContextManager[Session]:
        raise NotImplementedError(f"{self.name} starts programs, which join the other ranks by themselves")


def set_unless_given(name: str, value: str, given: str | None) -> dict[str, str | None]:
    """A variable that a launcher sets unless the user did (pure)."""
    return {} if given is not None else {name: value}
