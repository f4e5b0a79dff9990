"""Tasks that hold ranks, on a real scheduler and two real workers in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from bench.backends.dask.exchange import sum_arrays
from bench.backends.dask.rank_tasks import RankTask, RankTasks, measure_in_thread
from bench.backends.dask.sessions import exchange_dtype, pack_gradients, unpack_gradients
from bench.core.rank_info import RankInfo
from bench.core.records import RankFailure
from tests.support.builders import make_case

CASE = make_case(backend="dask", transport="tasks", ranks=2)
started: list[RankTask] = []
may_end = threading.Event()


def succeed(text: str) -> bool:
    started.append(RankTask.model_validate_json(text))
    return True


def block_after_rank_0_failed(text: str) -> bool:
    if RankTask.model_validate_json(text).number == 0:
        return False
    return may_end.wait(30)


def raise_on_rank_1(text: str) -> bool:
    if RankTask.model_validate_json(text).number == 1:
        raise RuntimeError("no memory")
    return True


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as connected,
    ):
        yield connected


@pytest.fixture
def tasks(client):
    started.clear()
    may_end.clear()
    made = RankTasks(client, CASE, "trial")
    yield made
    may_end.set()
    made.cancel()


@pytest.fixture
def addresses(client) -> list[str]:
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


def test_each_worker_runs_the_task_of_its_number_and_all_meet_at_the_first(tasks, addresses, tmp_path):
    tasks.submit(succeed, addresses, folder=tmp_path)
    tasks.watch()
    assert tasks.pending() == []
    assert not tasks.failed
    assert sorted(task.number for task in started) == [0, 1]
    (host,) = {task.rendezvous_host for task in started}
    assert host in addresses[0]
    assert len({task.rendezvous_port for task in started}) == 1
    assert {(task.workers, task.folder) for task in started} == {(tuple(addresses), str(tmp_path))}


def test_a_rank_that_fails_ends_the_wait_for_the_others(tasks, addresses):
    tasks.submit(block_after_rank_0_failed, addresses)
    tasks.watch(lambda: tasks.failed, deadline=time.monotonic() + 30)
    assert tasks.failed
    assert tasks.pending() == [1]


def test_a_task_that_raises_has_failed(tasks, addresses):
    tasks.submit(raise_on_rank_1, addresses)
    tasks.watch(deadline=time.monotonic() + 30)
    assert tasks.pending() == []
    assert tasks.failed


def test_the_wait_ends_at_the_deadline(tasks, addresses):
    tasks.submit(block_after_rank_0_failed, addresses)
    began = time.monotonic()
    tasks.watch(deadline=began + 0.3)
    assert time.monotonic() - began >= 0.3
    assert 1 in tasks.pending()


def test_the_wait_asks_as_often_as_it_is_told_to(tasks, addresses):
    calls = []
    tasks.submit(block_after_rank_0_failed, addresses)
    tasks.watch(lambda: calls.append(None) or len(calls) == 5, deadline=time.monotonic() + 30, interval_s=0.01)
    assert len(calls) == 5


def test_an_exchange_that_can_t_be_submitted_is_a_failure(tasks, addresses):
    tasks.submit(block_after_rank_0_failed, addresses)
    tasks.submit_exchange([], "direct")
    tasks.watch(lambda: tasks.exchange_problem is not None, deadline=time.monotonic() + 30)
    assert isinstance(tasks.exchange_problem, IndexError)
    assert tasks.failed


def test_a_rank_that_fails_leaves_its_failure_in_the_folder(tmp_path):
    case = make_case(workload="no_such_workload", backend="dask", transport="gloo", affinity="none", ranks=1)
    task = RankTask(case=case, trial="", number=0, rendezvous_host="127.0.0.1", rendezvous_port=1, workers=())
    assert measure_in_thread(task, RankInfo(0, 1, 0, 1, "127.0.0.1", 1), tmp_path) is False
    failure = RankFailure.model_validate_json((tmp_path / "failure-rank-0.json").read_text())
    assert (failure.role, failure.rank) == ("rank", 0)
    assert "unknown workload 'no_such_workload'" in failure.error
    assert not (tmp_path / "record-0.json").exists()


def odd_model() -> Any:
    """Frozen, unused, sparse, channels-last, bfloat16 and float64 parameters, and one that only odd inputs use."""
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.frozen = torch.nn.Parameter(torch.randn(3), requires_grad=False)
            self.unused = torch.nn.Parameter(torch.randn(2))
            self.embedding = torch.nn.Embedding(6, 4, sparse=True)
            self.images = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
            self.bfloat = torch.nn.Parameter(torch.randn(4).bfloat16())
            self.float64 = torch.nn.Parameter(torch.randn(3).double())
            self.sometimes = torch.nn.Parameter(torch.randn(1))

        def forward(self, number: int) -> Any:
            image = torch.full((1, 2, 4, 4), 0.1 * number).to(memory_format=torch.channels_last)
            features = self.images(image).sum() * self.frozen.sum()
            loss = features + self.embedding(torch.tensor([number])).sum() + self.bfloat.sum() * number
            loss = loss + (self.float64**2).sum() * number
            return loss + self.sometimes.sum() if number % 2 else loss

    return Odd()


def gradients_of(numbers: Sequence[int]) -> dict[str, Any]:
    """The mean over ranks as one process takes it; ``None`` where no rank has one."""
    model = odd_model()
    for number in numbers:
        (model(number) / len(numbers)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_parameters_of_every_kind_get_the_mean_gradient():
    import torch

    numbers = (2, 3)
    models = [odd_model() for _ in numbers]
    for model, number in zip(models, numbers, strict=True):
        model(number).backward()
    trained = [[parameter for parameter in model.parameters() if parameter.requires_grad] for model in models]
    arrays = [pack_gradients(parameters).numpy() for parameters in trained]
    expected = gradients_of(numbers)
    for model, parameters in zip(models, trained, strict=True):
        unpack_gradients(parameters, torch.from_numpy(sum_arrays(*arrays)), len(models))
        for name, parameter in model.named_parameters():
            if expected[name] is None:
                assert parameter.grad is None, name
                continue
            assert parameter.grad.dtype == parameter.dtype
            assert parameter.grad.is_sparse == expected[name].is_sparse
            assert parameter.grad.is_sparse or parameter.grad.stride() == parameter.stride()
            torch.testing.assert_close(parameter.grad.to_dense(), expected[name].to_dense(), rtol=0.01, atol=1e-6)
    assert {name for name, gradient in expected.items() if gradient is None} == {"frozen", "unused"}


def test_half_types_are_summed_as_float32():
    import torch

    assert exchange_dtype([torch.bfloat16]) is torch.float32
    assert exchange_dtype([torch.float16]) is torch.float32
    assert exchange_dtype([torch.bfloat16, torch.float64]) is torch.float64
    assert exchange_dtype([torch.int64]) is torch.int64
