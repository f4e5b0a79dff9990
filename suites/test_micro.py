"""The parts of a training step, each alone: order of samples, batches, exchange, and the step of each model.

    pytest suites/test_micro.py --benchmark-only --benchmark-json night.json

For pytest-benchmark, on CPUs. Everything is seeded and runs on one thread of one core, as the ranks of a sweep do. The
name of a benchmark is the name of its series over the nights: a benchmark that measures something else gets a new name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.core.case import Case, Scalar
from bench.host.resources import cores_of_rank, pin_threads, usable_cores
from bench.plugins import registry
from bench.plugins.backend import Session
from bench.workloads.training import Training, epoch_order, shard_of
from harness.sites.base.contract import TrialRequest
from harness.sites.local.site import SITE

torch = pytest.importorskip("torch", reason="torch is not installed")

IMAGES = 60_000
BATCH = 64
SMALLER_BATCH = {"transformer": 8}
"""Of models whose step is long, so that there are as many of them."""
SMALL, LARGE = 4 * 2**10, 4 * 2**20
RANKS_PATIENCE_S = 60

# A round is several calls where one is short: what is stored is the mean call of each of the 20 to 200 rounds.
pytestmark = pytest.mark.benchmark(
    min_time=0.005, max_time=1.0, min_rounds=20, warmup=True, warmup_iterations=10, disable_gc=True
)


@pytest.fixture
def one_core() -> Iterator[None]:
    threads, cores = torch.get_num_threads(), usable_cores()
    torch.set_num_threads(1)
    if cores:
        pin_threads(cores_of_rank(0, 1, cores))
    yield
    torch.set_num_threads(threads)
    if cores:
        pin_threads(cores)


def build(workload: str, session: Session, batch: int = BATCH, **options: Scalar) -> Training:
    """A rank's share of a training workload, ready to step."""
    loaded = registry.load_workload(workload)
    case = Case(workload=workload, workload_options=options, backend="single", transport="none", ranks=1, batch=batch)
    work = loaded.build(case.model_copy(update={"data": loaded.prepare(case)}), session)
    assert isinstance(work, Training)
    return work


# Batching


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.usefixtures("one_core")
def test_sample_order(benchmark: BenchmarkFixture, ranks: int) -> None:
    """One epoch's order, and the first rank's share of it."""
    share = benchmark(lambda: shard_of(epoch_order(IMAGES, seed=0, epoch=0), 0, ranks, BATCH))
    assert len(share) == IMAGES // BATCH * BATCH // ranks


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.usefixtures("one_core")
def test_epoch_of_batches(benchmark: BenchmarkFixture, ranks: int) -> None:
    """All batches of the first rank in an epoch of MNIST's size: order, gather, and each batch as floats."""
    feed = build("mnist", Session(world=ranks), source="digits").feed

    def epoch() -> None:
        for _ in range(IMAGES // BATCH):
            feed.next()

    benchmark(epoch)
    assert len(feed.last_samples()) == BATCH // ranks


# Collectives


class Played:
    """A clock that tells what was timed elsewhere: pytest-benchmark reads it around a call that moves it on."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def forward(self, seconds: float) -> None:
        self.now_s += seconds


played = Played()


@pytest.fixture(scope="module")
def allreduce_s(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[float, ...]]:
    """By the bytes of a message: how long the slower of two fresh ranks took for each allreduce."""
    folder = tmp_path_factory.mktemp("allreduce")
    case = Case(
        workload="allreduce",
        workload_options={"smallest": SMALL, "largest": LARGE},
        backend="ddp",
        transport="gloo",
        ranks=2,
        scaling="weak",
        batch=1,
        window_s=0.1,
        verify_steps=0,
        decompose=False,
    )
    SITE.warm(())
    ending = SITE.start(TrialRequest(case, registry.load_backend("ddp").launch(case), folder)).wait(RANKS_PATIENCE_S)
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    return {
        first.message_bytes: tuple(map(max, first.times_s, second.times_s))
        for first, second in zip(*(rank.messages for rank in ending.ranks), strict=True)
    }


@pytest.mark.parametrize("message_bytes", [SMALL, LARGE], ids=["4KiB", "4MiB"])
@pytest.mark.benchmark(timer=played)
def test_allreduce(benchmark: BenchmarkFixture, allreduce_s: dict[int, tuple[float, ...]], message_bytes: int) -> None:
    """Gloo, between two ranks of this machine."""
    times_s = iter(allreduce_s[message_bytes])
    benchmark.pedantic(lambda: played.forward(next(times_s)), rounds=len(allreduce_s[message_bytes]))


# Steps


@pytest.mark.parametrize("model", ["mlp", "toy", "transformer", "convnet"])
@pytest.mark.usefixtures("one_core")
def test_synthetic_step(benchmark: BenchmarkFixture, model: str) -> None:
    """Batch, forward, backward and optimizer."""
    work = build("synthetic", Session(), SMALLER_BATCH.get(model, BATCH), model=model)
    benchmark(work.step)
    assert torch.isfinite(work.loss), f"the loss became {float(work.loss)}"


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn"])
@pytest.mark.usefixtures("one_core")
def test_mnist_step(benchmark: BenchmarkFixture, model: str) -> None:
    """Batch, forward, backward and optimizer; once an epoch the batch includes its gather."""
    work = build("mnist", Session(), model=model, source="digits")
    benchmark(work.step)
    assert torch.isfinite(work.loss), f"the loss became {float(work.loss)}"
