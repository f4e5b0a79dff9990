"""Real ranks over Gloo that perform collective operations: runs as one of them (``python -m``), and starts all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.core.rank_info import RankInfo
from bench.host.network import LOOPBACK, free_port
from bench.plugins.backend import Session
from bench.workloads.collectives.workload import WORKLOAD

ROOT = Path(__file__).parents[2]
SPOILT = "spoilt"


def run_collectives(world: int, plans: list[dict[str, Any]], timeout_s: float = 100) -> list[list[Any]]:
    """What each rank returned for each plan: the messages it timed, or the error.

    Args:
        world: The number of ranks.
        plans: Options of the workload; with :data:`SPOILT`, an element of rank 1's results is changed.
        timeout_s: For all of it.
    """
    arguments = [str(world), str(free_port(LOOPBACK.address)), json.dumps(plans)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(rank), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "GLOO_SOCKET_IFNAME": LOOPBACK.name, "PYTHONPATH": str(ROOT)},
        )
        for rank in range(world)
    ]
    outputs = [rank.communicate(timeout=timeout_s)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world
    return [json.loads(output) for output in outputs]


class SpoiltSession(Session):
    """Another session's ranks; rank 1 changes an element of each result."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.rank, session.world, session.device)
        self.all_reduce_sum = session.all_reduce_sum  # type: ignore[method-assign]
        self.session = session

    def prepare_collective(self, operation, send, receive):
        perform = self.session.prepare_collective(operation, send, receive)

        def perform_and_spoil():
            perform()
            if self.rank == 1:
                receive[-1] += 1

        return perform_and_spoil


def run_rank(rank: int, world: int, port: int, plans: list[dict[str, Any]]) -> list[Any]:
    import torch

    from bench.backends.ddp import BACKEND

    torch.set_num_threads(1)
    base = {"workload": "collectives", "backend": "ddp", "transport": "gloo", "ranks": world, "batch": 1}
    found: list[Any] = []
    with BACKEND.session(Case(**base), RankInfo(rank, world, rank, world, LOOPBACK.address, port)) as session:
        for plan in plans:
            options = {name: value for name, value in plan.items() if name != SPOILT}
            seen = SpoiltSession(session) if SPOILT in plan else session
            work = WORKLOAD.build(Case(**base, workload_options=options), seen)
            try:
                work.verify(4)
            except RuntimeError as problem:
                found.append(str(problem))
                continue
            work.step()
            found.append([message.model_dump(mode="json") for message in work.finish()[1]])
    return found


if __name__ == "__main__":
    print(json.dumps(run_rank(*map(int, sys.argv[1:4]), json.loads(sys.argv[4]))), flush=True)
    # As our own ranks end: a thread that Gloo has left behind may abort an orderly exit.
    os._exit(0)
