"""The proof of same work on a real exchange between threads: rounding is no mistake, and each mistake is named."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from bench.core.same_work import Tolerance
from bench.plugins.backend import FLOAT32_TOLERANCE, Options, Session, rounding_tolerance
from bench.plugins.workload import Workload
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from bench.workloads.synthetic import PoolFeed
from bench.workloads.training import StepOptions, Training
from tests.support.builders import make_case
from tests.support.thread_ranks import ThreadSession, prove

LANGUAGE_MODEL = {"model": "transformer", "width": 32, "heads": 2, "layers": 1, "sequence": 8, "vocabulary": 50}


@pytest.fixture(autouse=True)
def _one_thread_a_rank():
    torch.set_num_threads(1)


def synthetic(ranks=2, batch=12, **options):
    return make_case(ranks=ranks, batch=batch, workload_options={"hidden": 32, **options})


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_an_honest_language_model_is_the_same_work_whatever_its_optimizer(optimizer, ranks):
    found = prove(SYNTHETIC, synthetic(ranks, **LANGUAGE_MODEL, optimizer=optimizer))
    assert (found.verdict, found.reason) == ("same", None)
    assert found.deviation < 1e-5
    assert found.tolerance == pytest.approx(1e-3, rel=0.1)
    assert 0 < found.rounding < 1e-5, "it was compared with something"


def test_bf16_accumulation_clipping_and_dropout_are_the_same_work():
    options = {"optimizer": "adamw", "autocast": "bf16", "accumulate": 2, "clip": 0.1, "dropout": 0.1}
    found = prove(SYNTHETIC, synthetic(3, **LANGUAGE_MODEL, **options))
    assert (found.verdict, found.reason) == ("same", None)
    assert found.deviation < 1e-5, "a rank's batch is rounded alike in the reference"
    assert 1e-4 < found.rounding < 0.05, "a single process rounds so much when it cuts the batch otherwise"
    assert found.label == "float32, rounding of bfloat16, without dropout"


class ClippedFirst(ThreadSession):
    """Clips each rank's own gradient before the exchange."""

    def exchange(self):
        nn.utils.clip_grad_norm_(self.parameters, 0.1)
        super().exchange()


class Summed(ThreadSession):
    def mean(self, gradient):
        return self.all_reduce_sum(gradient)


class SummedInTheOptimizer(ThreadSession):
    """With Adam the sum moves parameters as far as the mean does."""

    def exchange(self):
        super().exchange()
        for parameter in self.parameters:
            parameter.grad.mul_(1.01)


class OneLeftOut(ThreadSession):
    """One parameter's gradient is not exchanged."""

    def mean(self, gradient):
        return gradient if gradient is self.parameters[-1].grad else super().mean(gradient)


class ShardsSwapped(ThreadSession):
    """The halves of each gradient come home in the wrong order."""

    def mean(self, gradient):
        flat = super().mean(gradient).flatten()
        return flat.roll(len(flat) // 2).view_as(gradient)


class ScaledRate(ThreadSession):
    """Scales the learning rate by the number of ranks, as older tutorials do."""

    def build_optimizer(self, model, make):
        optimizer = super().build_optimizer(model, make)
        for group in optimizer.param_groups:
            group["lr"] *= self.world
        return optimizer


class StartsElsewhere(ThreadSession):
    """All ranks start from other parameters than the seed gives."""

    def parallelize(self, model):
        with torch.no_grad():
            next(model.parameters()).mul_(1.001)
        return model


MISTAKES = {
    ClippedFirst: ("gradient of", {"clip": 0.1}),
    Summed: ("gradient of", {}),
    SummedInTheOptimizer: ("gradient of", {}),
    OneLeftOut: ("has different parameters", {}),
    ShardsSwapped: ("gradient of", {}),
    ScaledRate: ("update of", {}),
    StartsElsewhere: ("before the first step the ranks have other parameters", {}),
}


@pytest.mark.parametrize("arithmetic", ["off", "bf16"])
@pytest.mark.parametrize("session", MISTAKES, ids=lambda session: session.__name__)
def test_a_mistake_in_the_exchange_is_caught_under_adamw(session, arithmetic):
    said, options = MISTAKES[session]
    case = synthetic(2, **LANGUAGE_MODEL, optimizer="adamw", autocast=arithmetic, **options)
    found = prove(SYNTHETIC, case, session)
    assert found.verdict == "different"
    assert said in found.reason


class Planted(Workload):
    """A small model with a buffer, whose step or feed may have a mistake."""

    name, summary, options = "planted", "", Options

    def __init__(self, training=Training, model=None, loss=None, feed=PoolFeed, **options):
        self.training, self.model, self.loss, self.feed = training, model, loss or nn.MSELoss(), feed
        self.step_options = StepOptions(optimizer="adamw", **options)

    def build(self, case, session):
        torch.manual_seed(case.seed)
        model = self.model() if self.model else Scaled()
        feed = self.feed(torch.randn(96, 6), torch.randn(96, 4), case.global_batch, session)
        return self.training(session, model, self.loss, feed, case.global_batch, options=self.step_options)


class Scaled(nn.Module):
    """A layer whose output is scaled by a buffer that follows its inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.register_buffer("scale", torch.ones(()))
        self.frozen = False

    def forward(self, inputs):
        if not self.frozen:
            self.scale += 0.1
        return self.layer(inputs) * self.scale


class DividedTwice(Training):
    """Divides by the passes of gradient accumulation once too often."""

    def _backward(self, number):
        self.loss = self.loss / self.accumulate
        super()._backward(number)


def test_a_wrong_divisor_of_accumulated_gradients_is_caught():
    case = make_case(ranks=2, batch=8)
    assert prove(Planted(accumulate=2), case).verdict == "same"
    found = prove(Planted(DividedTwice, accumulate=2), case)
    assert found.verdict == "different"
    assert found.reason.startswith("gradient of layer.")
    assert found.deviation == pytest.approx(0.5, rel=0.2)


class FreezesABuffer(ThreadSession):
    """The buffer of rank 1 is not updated, as if it were not in its list."""

    def parallelize(self, model):
        model.frozen = self.rank == 1
        return model


class BuffersApart(ThreadSession):
    def parallelize(self, model):
        model.scale += self.rank
        return model


def test_one_rank_s_stale_buffer_is_caught():
    case = make_case(ranks=2, batch=8)
    found = prove(Planted(), case, FreezesABuffer)
    assert (found.verdict, found.quantity[:11]) == ("different", "gradient of")
    apart = prove(Planted(), case, BuffersApart)
    assert apart.reason == "before the first step rank 1 has different parameters or buffers from rank 0"


class ReadsTheFirstShard(PoolFeed):
    """Every rank reads the shard of rank 0, and says so."""

    def __init__(self, inputs, targets, global_batch, session):
        super().__init__(inputs, targets, global_batch, Session(0, session.world))
        self.rank = session.rank


class HidesIt(ReadsTheFirstShard):
    def last_samples(self):
        return tuple(sample + self.rank for sample in super().last_samples())


def test_swapped_shards_are_caught_under_adamw():
    case = make_case(ranks=2, batch=8)
    assert "did not take the reference's samples" in prove(Planted(feed=ReadsTheFirstShard), case).reason
    assert prove(Planted(feed=HidesIt), case).reason.startswith(("gradient of", "loss of"))


def coupled():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("changes", [{"model": coupled}, {"loss": nn.MSELoss(reduction="sum")}], ids=["norm", "sum"])
def test_samples_that_are_not_independent_are_the_named_cause(changes):
    found = prove(Planted(**changes), make_case(ranks=2, batch=8))
    assert found.verdict == "different"
    assert "from the mean of its halves', more than float32 rounds" in found.reason


class Noisy(nn.Module):
    """Random in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, inputs):
        return nn.functional.dropout(self.layer(inputs), 0.5, training=True)


def test_randomness_that_cannot_be_switched_off_is_the_named_cause():
    found = prove(Planted(model=Noisy), make_case(ranks=2, batch=8))
    assert (found.verdict, found.deviation) == ("unproven", None)
    assert found.reason.startswith("the model is random in evaluation mode too: two passes over a batch")


def test_dropout_is_on_again_after_the_verified_steps_and_mistakes_are_caught_without_it():
    def dropping():
        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 4))

    kept = []

    class Kept(ThreadSession):
        def parallelize(self, model):
            kept.append(model)
            return model

    case = make_case(ranks=2, batch=8)
    assert prove(Planted(model=dropping), case, Kept).verdict == "same"
    assert all(module.training for model in kept for module in model.modules())
    assert prove(Planted(model=dropping), case, Summed).verdict == "different"


class Float16(ThreadSession):
    """Sends and adds float16."""

    def mean(self, gradient):
        return (self.all_reduce_sum(gradient.half()) / self.world).float()


class Float16Scaled(Float16):
    def mean(self, gradient):
        return 1.01 * super().mean(gradient)


def test_a_lossy_exchange_is_checked_against_the_bound_that_it_states():
    case = synthetic(3, **LANGUAGE_MODEL, optimizer="adamw")
    undeclared = prove(SYNTHETIC, case, Float16, Tolerance(value=1e-5, label="float32"))
    assert undeclared.verdict == "different"
    declared = prove(SYNTHETIC, case, Float16, rounding_tolerance("float16", 3))
    assert (declared.verdict, declared.reason) == ("same", None)
    assert 1e-5 < declared.deviation < declared.tolerance
    assert prove(SYNTHETIC, case, Float16Scaled, rounding_tolerance("float16", 3)).verdict == "different"


class WithErrorFeedback(ThreadSession):
    """Sends every second number, and keeps the others back for the next step."""

    def __init__(self, rank, group):
        super().__init__(rank, group)
        self.kept = {}

    def exchange(self):
        for number, parameter in enumerate(self.parameters if self.exchanging else ()):
            wanted = parameter.grad + self.kept.get(number, 0.0)
            sent = wanted.clone()
            sent.view(-1)[number % 2 :: 2] = 0
            self.kept[number] = wanted - sent
            parameter.grad = self.mean(sent)

    def withheld_gradient(self, parameter):
        return self.kept.get(next(number for number, own in enumerate(self.parameters) if own is parameter))


class Forgetful(WithErrorFeedback):
    """Keeps parts back and never sends them."""

    def exchange(self):
        kept = dict(self.kept)
        self.kept = {}
        super().exchange()
        self.kept = {number: part + kept.get(number, 0.0) / 2 for number, part in self.kept.items()}


@pytest.mark.parametrize("options", [{}, {"clip": 0.1}, {"precision": "fp16"}], ids=lambda options: " ".join(options))
def test_what_a_lossy_exchange_keeps_back_for_later_is_accounted_for(options):
    case = synthetic(2, **LANGUAGE_MODEL, optimizer="adamw", **options)
    honest = prove(SYNTHETIC, case, WithErrorFeedback, FLOAT32_TOLERANCE)
    assert (honest.verdict, honest.reason) == ("same", None)
    assert honest.deviation < 1e-5
    assert prove(SYNTHETIC, case, Forgetful, FLOAT32_TOLERANCE).verdict == "different"


def test_a_loosened_tolerance_is_shown():
    case = synthetic(2, optimizer="adamw")
    found = prove(SYNTHETIC, case, SummedInTheOptimizer, Tolerance(value=0.02, label="set by --tolerance"))
    assert (found.verdict, found.label) == ("same", "set by --tolerance")
    assert found.tolerance == pytest.approx(0.02, rel=0.01)


class Tied(nn.Module):
    """Sparse, frozen, unused and bfloat16 parameters."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 6, sparse=True)
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.narrow = nn.Linear(6, 4, dtype=torch.bfloat16)

    def forward(self, inputs):
        rows = self.table(inputs[:, 0].abs().long() % 10) * self.frozen
        return self.narrow((rows + inputs).bfloat16()).float()


class WithoutNone(ThreadSession):
    def mean(self, gradient):
        return None if gradient is None else super().mean(gradient.to_dense() if gradient.is_sparse else gradient)


def test_sparse_frozen_unused_and_narrow_parameters_are_compared():
    case = make_case(ranks=2, batch=8)
    found = prove(Planted(model=Tied), case, WithoutNone)
    assert (found.verdict, found.reason) == ("same", None)


def test_only_the_last_pass_of_a_step_exchanges():
    entered = []

    class Counted(ThreadSession):
        @contextmanager
        def no_sync(self):
            entered.append(self.rank)
            yield

    prove(Planted(accumulate=4), make_case(ranks=2, batch=8), Counted, steps=1)
    # Forward and backward of three of four passes.
    assert entered.count(0) == entered.count(1) == 6
