"""Dask's ``tasks`` transport beside the plain way of writing it: one chain of futures, submitted step by step."""

from __future__ import annotations

import statistics
import time

import pytest

from bench.core.case import Case
from tests.perf.conftest import throughput

STEPS, PAIRS, BATCH, RANKS = 100, 7, 128, 2
CHAIN_GOAL, DDP_GOAL = 4, 0.85


def gradients_of(parameters, rank):
    """One rank's gradients of the synthetic mlp at the given flat parameters."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    state = gradients_of.__dict__
    if "model" not in state:
        torch.manual_seed(0)
        state["model"] = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10))
        state["batch"] = torch.randn(BATCH // RANKS, 784), torch.randint(0, 10, (BATCH // RANKS,))
    model = state["model"]
    if parameters is not None:
        nn.utils.vector_to_parameters(torch.from_numpy(parameters.copy()), model.parameters())
    model.zero_grad()
    inputs, targets = state["batch"]
    nn.functional.cross_entropy(model(inputs), targets).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).numpy()


def merged(parameters, *gradients):
    """The next flat parameters."""
    mean = sum(gradients) / len(gradients)
    return mean * -0.05 if parameters is None else parameters - 0.05 * mean


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two single-threaded worker processes, as anyone would start them."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=RANKS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def plain_chain(client) -> float:
    """Samples per second of futures chained by the client: gradients on each worker → merged → gradients …"""
    from distributed import wait

    addresses = list(client.scheduler_info(n_workers=-1)["workers"])
    parameters, times = None, []
    for _ in range(STEPS):
        began = time.perf_counter()
        gradients = [
            client.submit(gradients_of, parameters, rank, workers=[address], pure=False)
            for rank, address in enumerate(addresses)
        ]
        parameters = client.submit(merged, parameters, *gradients, pure=False)
        wait(parameters)
        times.append(time.perf_counter() - began)
    return BATCH / statistics.median(times)


def test_our_tasks_beside_a_plain_chain_of_futures(side_by_side, goal, cluster):
    case = Case(workload="synthetic", backend="dask", transport="tasks", ranks=RANKS, batch=BATCH, steps=STEPS)
    ratios = side_by_side(
        lambda: throughput(case),
        lambda: plain_chain(cluster),
        PAIRS,
        "samples/s of our dask/tasks mlp cell ÷ a plain chain of futures, 2 ranks, batch 128",
    )
    goal("samples/s, Dask tasks ÷ a chain of futures, 2 ranks", ratios, at_least=CHAIN_GOAL)


@pytest.mark.parametrize("ranks", [2, 4])
def test_our_tasks_beside_ddp(side_by_side, goal, ranks):
    dask = Case(workload="synthetic", backend="dask", transport="tasks", ranks=ranks, batch=BATCH, steps=STEPS)
    ddp = Case(workload="synthetic", backend="ddp", transport="gloo", ranks=ranks, batch=BATCH, steps=STEPS)
    ratios = side_by_side(
        lambda: throughput(dask),
        lambda: throughput(ddp),
        PAIRS,
        f"samples/s of our dask/tasks mlp cell ÷ our ddp/gloo cell, {ranks} ranks, global batch 128",
    )
    goal(f"samples/s, Dask tasks ÷ DDP, {ranks} ranks", ratios, at_least=DDP_GOAL)
