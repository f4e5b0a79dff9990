"""A program as horovodrun starts it: the ``HOROVOD_*`` variables, and the rendezvous where its ranks meet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.horovod import BACKEND as HOROVOD
from bench.backends.horovod import rendezvous_server
from bench.backends.horovod_settings import HorovodOptions, environment_variables
from bench.backends.programs import ProgramLauncher
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo


class Horovodrun(ProgramLauncher):
    name = "horovodrun"
    summary = "a program of your own, as horovodrun starts it"
    requires = HOROVOD.requires
    packages = ("torch", "horovod")
    remedy = HOROVOD.remedy

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, launchers=("horovodrun",)),)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        if "HOROVOD_GLOO_RENDEZVOUS_PORT" in os.environ:
            yield {}
            return
        interface = os.environ.get("GLOO_SOCKET_IFNAME")
        variables = environment_variables(HorovodOptions(), "gloo", me, interface, timeout_s=case.library_timeout_s)
        with rendezvous_server(me, case.timeout_s):
            yield variables


BACKEND = Horovodrun()
