"""A step that waits for the host, and the same step replayed from a CUDA graph. About 40 s of device time."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest

from bench.backends.ddp import BACKEND as DDP
from bench.backends.single import BACKEND as SINGLE
from bench.core.rank_info import RankInfo
from bench.host.network import free_port
from bench.plugins.backend import FLOAT32_TOLERANCE, Session
from bench.rank.clock import synchronize
from bench.rank.device_busy import CudaQueue, measure_device_busy
from bench.rank.training_proof import prove_training
from bench.rank.verify import reference_case
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from reports.analysis.device_busy import device_time
from reports.analysis.same_work import judge_same_work
from tests.support.alternating import alternating_ratio
from tests.support.builders import make_case, make_record

BACKENDS = {"single": (SINGLE, {"cpu": "none", "cuda": "none"}), "ddp": (DDP, {"cpu": "gloo", "cuda": "nccl"})}
PAIRS, BLOCK_STEPS, WARMUP_STEPS = 40, 100, 50
DRY_PAIRS, DRY_BLOCK_STEPS, DRY_WARMUP_STEPS = 3, 3, 1


def case_of(backend, device, batch=512, **options):
    """An mlp of one rank. A CPU has no graphs: there the same steps are taken as they are written."""
    if device.type == "cpu":
        options.pop("cuda_graph", None)
    transport = BACKENDS[backend][1][device.type]
    return make_case(
        backend=backend, transport=transport, device=device.type, ranks=1, batch=batch, workload_options=options
    )


@contextmanager
def session_of(case):
    me = RankInfo(0, 1, 0, 1, "127.0.0.1", free_port("127.0.0.1"))
    with BACKENDS[case.backend][0].session(case, me) as session:
        yield session


def warmed_up(work, device):
    for _ in range(DRY_WARMUP_STEPS if device.type == "cpu" else WARMUP_STEPS):
        work.step()
    return work


def seconds_a_step(work, session, steps):
    """How long steps take that follow each other, in seconds each."""
    synchronize(session.device)
    began = time.perf_counter()
    for _ in range(steps):
        work.step()
    synchronize(session.device)
    return (time.perf_counter() - began) / steps


def device_seconds(work, session):
    """What the device needs for a step, in seconds, and the share of a step in which it waits for the host."""
    step_s = seconds_a_step(work, session, BLOCK_STEPS)
    measured = measure_device_busy(work, session, CudaQueue(), step_s)
    assert measured.reason is None
    found = device_time([make_record(queued_steps=measured.queued)], step_s)
    return found.busy_s, found.host_bound_share


@pytest.mark.device_only
@pytest.mark.parametrize("batch", [64, 512])
def test_share_of_an_eager_step_in_which_the_device_waits(device, record_figure, batch):
    """The share of an eager mlp's step in which the GPU waits for the host"""
    case = case_of("single", device, batch)
    with session_of(case) as session:
        busy_s, share = device_seconds(warmed_up(SYNTHETIC.build(case, session), device), session)
    record_figure(f"device time of a step, mlp at batch {batch}", busy_s, "s", note="steps queued behind a hold")
    record_figure(f"share of the step in which the device waits, mlp at batch {batch}", share, "1", at_least=0.5)


@pytest.mark.device_only
def test_a_large_batch_keeps_the_device_busy(device, record_figure):
    """The same share of a step whose device has much to do"""
    case = case_of("single", device, 65536)
    with session_of(case) as session:
        _, share = device_seconds(warmed_up(SYNTHETIC.build(case, session), device), session)
    record_figure("share of the step in which the device waits, mlp at batch 65536", share, "1", at_most=0.1)


@pytest.mark.parametrize("backend", ["single", "ddp"])
def test_a_replayed_step_beside_an_eager_one(device, record_figure, backend):
    """Throughput of a captured step ÷ an eager one, what was predicted, and the device time by both ways"""
    dry = device.type == "cpu"
    pairs, steps = (DRY_PAIRS, DRY_BLOCK_STEPS) if dry else (PAIRS, BLOCK_STEPS)
    eager_case, graph_case = case_of(backend, device), case_of(backend, device, cuda_graph=True)
    with session_of(eager_case) as session:
        eager = warmed_up(SYNTHETIC.build(eager_case, session), device)
        graph = warmed_up(SYNTHETIC.build(graph_case, session), device)
        replayed_s = []

        def replay():
            replayed_s.append(seconds_a_step(graph, session, steps))
            return replayed_s[-1]

        found = alternating_ratio(lambda: seconds_a_step(eager, session, steps), replay, pairs)
        name = f"mlp at batch 512, {backend}"
        note = f"{pairs} alternating pairs of {steps} steps"
        record_figure(
            f"throughput replayed ÷ eager, {name}", found.median, "1", found.low, found.high, note, at_least=4
        )
        if dry:
            return
        busy_s, share = device_seconds(eager, session)
        predicted = 1 / (1 - share)
        record_figure(f"the same, predicted at most, {name}", predicted, "1")
        record_figure(f"reached ÷ predicted, {name}", found.median / predicted, "1", at_most=1.1)
        by_queue = busy_s / min(replayed_s)
        record_figure(f"device time of a queued step ÷ of a replayed one, {name}", by_queue, "1", None, None, "")
        record_figure(f"difference of both, {name}", abs(by_queue - 1), "1", at_most=0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("backend", ["single", "ddp"])
def test_a_replayed_step_does_the_same_work(device, backend, optimizer):
    """A captured step does the work of an eager one of a single process"""
    case = case_of(backend, device, 64, cuda_graph=True, optimizer=optimizer)
    reference = Session(device="cpu" if device.type == "cpu" else "cuda:0")
    with session_of(case) as session:
        work = SYNTHETIC.build(case, session)
        assert (work.graph is not None) == (device.type == "cuda")
        proof = prove_training(
            work, lambda: SYNTHETIC.build(reference_case(case, SYNTHETIC), reference), 4, FLOAT32_TOLERANCE
        )
    found = judge_same_work([make_record(proof=proof, final_digest=proof.digest)])
    assert (found.verdict, found.reason) == ("same", None)
