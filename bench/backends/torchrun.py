"""A program under torchrun's contract: the variables that torch.distributed's elastic agent gives each worker."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.programs import ProgramLauncher, common_variables
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo
from bench.host.variables import TORCHRUN_MARK

NCCL_VARIABLE = "TORCH_NCCL_ASYNC_ERROR_HANDLING"


def torchrun_variables(case: Case, me: RankInfo, env: Mapping[str, str]) -> dict[str, str | None]:
    """What torchrun gives a worker (torch 2.13, torch/distributed/elastic/agent/server/local_elastic_agent.py); pure.

    As with ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``, rank 0 serves the store where the ranks meet.

    Args:
        case: A case with a program.
        me: The rank of this process.
        env: The environment variables that it inherited.
    """
    return common_variables(case, env) | {
        "RANK": str(me.rank),
        "WORLD_SIZE": str(me.world),
        "LOCAL_RANK": str(me.local_rank),
        "LOCAL_WORLD_SIZE": str(me.local_world),
        "GROUP_RANK": str(case.node_of_rank(me.rank)),
        "GROUP_WORLD_SIZE": str(case.nodes if case.net is None else 1),
        "ROLE_RANK": str(me.rank),
        "ROLE_NAME": "default",
        "ROLE_WORLD_SIZE": str(me.world),
        "MASTER_ADDR": me.rendezvous_host,
        "MASTER_PORT": str(me.rendezvous_port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        TORCHRUN_MARK: "none",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": "",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT",
        NCCL_VARIABLE: env.get(NCCL_VARIABLE, "1"),
    }


class Torchrun(ProgramLauncher):
    name = "torchrun"
    summary = "a program of your own, as torchrun starts it"

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, launchers=("torchrun",)),)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        started_by_torchrun = TORCHRUN_MARK in os.environ
        yield common_variables(case, os.environ) if started_by_torchrun else torchrun_variables(case, me, os.environ)


BACKEND = Torchrun()
