"""A program as horovodrun starts it: the ``HOROVOD_*`` variables, and the rendezvous where its ranks meet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.horovod import BACKEND as HOROVOD
from bench.backends.horovod_hosts import (
    RENDEZVOUS_PORT_VARIABLE,
    address_of_host,
    place_among_hosts,
    rendezvous_server,
    resolving_hostname_as,
)
from bench.backends.horovod_settings import HorovodOptions, environment_variables
from bench.backends.programs import TORCH_VARIABLES, ProgramLauncher, common_variables
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.rank.program.options import needs_given_steps


class Horovodrun(ProgramLauncher):
    name = "horovodrun"
    summary = "a program of your own, as horovodrun starts it"
    requires = HOROVOD.requires
    packages = ("torch", "horovod")
    remedy = HOROVOD.remedy

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, launchers=("horovodrun",)),)

    def unsupported_reason(self, case: Case) -> str | None:
        if needs_given_steps(case):
            return (
                "on several nodes, ranks agree on the window of a program by its torch.distributed store, and a "
                "program of Horovod has none: give the length of the window in steps (--steps N), or --whole"
            )
        return super().unsupported_reason(case)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        variables = common_variables(case, os.environ) | {"PYTHONUNBUFFERED": "1"}
        if RENDEZVOUS_PORT_VARIABLE in os.environ:
            yield variables
            return
        place = place_among_hosts(case, me)
        interface = os.environ.get("GLOO_SOCKET_IFNAME")
        variables |= dict.fromkeys(TORCH_VARIABLES)
        variables |= environment_variables(HorovodOptions(), "gloo", place, interface, timeout_s=case.library_timeout_s)
        with (
            rendezvous_server(place, case.timeout_s),
            resolving_hostname_as(address_of_host(me, "gloo", os.environ)),
        ):
            yield variables


BACKEND = Horovodrun()
