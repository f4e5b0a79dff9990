"""A program under torchrun's contract: the variables that torch.distributed's elastic agent gives each worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.backends.programs import ProgramLauncher
from bench.core.case import Case, Role
from bench.core.rank_info import RankInfo


def torchrun_variables(case: Case, me: RankInfo) -> dict[str, str]:
    """What torchrun of torch 2.13 sets for a worker (torch/distributed/elastic/agent/server/local_elastic_agent.py)."""
    node = case.node_of_rank(me.rank)
    return {
        "RANK": str(me.rank),
        "WORLD_SIZE": str(me.world),
        "LOCAL_RANK": str(me.local_rank),
        "LOCAL_WORLD_SIZE": str(me.local_world),
        "GROUP_RANK": str(node),
        "GROUP_WORLD_SIZE": str(case.nodes),
        "ROLE_RANK": str(me.rank),
        "ROLE_NAME": "default",
        "ROLE_WORLD_SIZE": str(me.world),
        "MASTER_ADDR": me.rendezvous_host,
        "MASTER_PORT": str(me.rendezvous_port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }


class Torchrun(ProgramLauncher):
    name = "torchrun"
    summary = "a program of your own, as torchrun starts it"

    def launch(self, case: Case) -> tuple[Role, ...]:
        return (Role(name="rank", count=case.ranks, launchers=("torchrun",)),)

    @contextmanager
    def program_environment(self, case: Case, me: RankInfo) -> Iterator[Mapping[str, str | None]]:
        yield torchrun_variables(case, me)


BACKEND = Torchrun()
