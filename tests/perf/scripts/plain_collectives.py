"""Collective operations of this project's sessions beside plain calls of torch.distributed, in alternation.

    python -m tests.perf.scripts.plain_collectives RANK WORLD PORT PAIRS [BYTES …]

Both use the same processes and the same process group, and take turns call by call, so that a pair differs by the code
around the operation alone, and other load on the machine hits both alike. Rank 0 prints a line of JSON: for each
operation and size the pairs of lower quartiles of the slowest rank, in seconds: other load lengthens many calls.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import torch
import torch.distributed as dist

from bench.backends.ddp import BACKEND
from bench.core.case import Case
from bench.core.collectives import COLLECTIVES, buffer_elements, message_elements
from bench.core.rank_info import RankInfo
from bench.workloads.collectives.timing import timed_call

CALLS_OF_SIZE = {2**10: 200, 2**20: 100, 2**24: 20}
"""The calls of each kind in a pair, by the bytes of a message."""


def plain_call(operation: str, elements: int, rank: int, world: int) -> Callable[[], float]:
    """As one writes it by hand: a clock around one call."""
    part = elements // world
    whole, other, own = torch.zeros(elements), torch.zeros(elements), torch.zeros(part)

    def send_recv() -> None:
        transfers = [
            dist.P2POp(dist.isend, whole, (rank + 1) % world),
            dist.P2POp(dist.irecv, other, (rank - 1) % world),
        ]
        for work in dist.batch_isend_irecv(transfers):
            work.wait()

    def once() -> float:
        began = time.perf_counter()
        if operation == "all_reduce":
            dist.all_reduce(whole)
        elif operation == "all_gather":
            dist.all_gather_single(whole, own)
        elif operation == "reduce_scatter":
            dist.reduce_scatter_single(own, whole)
        elif operation == "all_to_all":
            dist.all_to_all_single(other, whole)
        elif operation == "broadcast":
            dist.broadcast(whole, 0)
        else:
            send_recv()
        return time.perf_counter() - began

    return once


def slowest_quartile(times: list[float], world: int) -> float:
    """The lower quartile over repetitions of the slowest rank."""
    gathered: list[Any] = [torch.zeros(len(times), dtype=torch.float64) for _ in range(world)]
    dist.all_gather(gathered, torch.tensor(times, dtype=torch.float64))
    return quantiles(torch.stack(gathered).amax(dim=0).tolist(), n=4)[0]


def main(rank: int, world: int, port: int, pairs: int, *sizes: int) -> None:
    torch.set_num_threads(1)
    case = Case(workload="collectives", backend="ddp", transport="gloo", ranks=world, batch=1)
    found: dict[str, list[tuple[float, float]]] = {}
    with BACKEND.session(case, RankInfo(rank, world, rank, world, "127.0.0.1", port)) as session:
        for operation in COLLECTIVES:
            for size, calls in CALLS_OF_SIZE.items():
                if sizes and size not in sizes:
                    continue
                elements = message_elements(operation, size, 4, world)
                sent, received = buffer_elements(operation, elements, world)
                receive = torch.zeros(received)
                send = receive if operation in ("all_reduce", "broadcast") else torch.zeros(sent)
                own = timed_call(session.prepare_collective(operation, send, receive), session.device)
                plain = plain_call(operation, elements, rank, world)
                for _ in range(3):
                    own()
                    plain()
                for _ in range(pairs):
                    times: tuple[list[float], list[float]] = ([], [])
                    for number in range(calls):
                        # own, plain, plain, own, …
                        for kind in (0, 1) if number % 2 else (1, 0):
                            dist.barrier()
                            times[kind].append((own, plain)[kind]())
                    found.setdefault(f"{operation} {size}", []).append(
                        (slowest_quartile(times[0], world), slowest_quartile(times[1], world))
                    )
    if rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
