"""One device, no exchange: the baseline of every other backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.host.resources import use_device
from bench.plugins.backend import Backend, Session


class Single(Backend):
    name = "single"
    summary = "one device, no exchange"
    transports = {"cpu": ("none",), "cuda": ("none",)}  # noqa: RUF012 - declared read-only by the contract

    def unsupported_reason(self, case: Case) -> str | None:
        if case.ranks != 1:
            return "single is one rank by definition"
        return super().unsupported_reason(case)

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=1),)

    @contextmanager
    def session(self, case: Case, me: RankInfo) -> Iterator[Session]:
        yield Session(device=use_device(case, 0))


BACKEND = Single()
