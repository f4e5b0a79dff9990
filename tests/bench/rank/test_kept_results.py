"""Results of the verified steps that were kept: the same verdict without a reference, and no mistake is missed."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

from bench.backends.ddp import BACKEND as DDP  # noqa: E402
from bench.plugins.backend import Session  # noqa: E402
from bench.rank.kept_results import KeptResults, open_kept_results  # noqa: E402
from bench.rank.tensors import digest_tensors  # noqa: E402
from bench.rank.verify import compare_with_reference  # noqa: E402
from bench.workloads.allreduce import WORKLOAD as ALLREDUCE  # noqa: E402
from bench.workloads.array_mean import WORKLOAD as ARRAY_MEAN  # noqa: E402
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC  # noqa: E402
from bench.workloads.synthetic import Synthetic  # noqa: E402
from tests.support.builders import make_case  # noqa: E402
from tests.support.thread_ranks import ThreadSession, prove  # noqa: E402

LANGUAGE_MODEL = {"model": "transformer", "width": 32, "heads": 2, "layers": 1, "sequence": 8, "vocabulary": 50}
CHANGED_STEP, STEPS = 2, 4


@pytest.fixture(autouse=True)
def _one_thread_a_rank():
    torch.set_num_threads(1)


@pytest.fixture
def kept(tmp_path):
    """``kept()``: the results as the next trial finds them."""
    return lambda: KeptResults(tmp_path / "kept" / "case.json")


def synthetic(**options):
    return make_case(ranks=2, batch=12, workload_options={"hidden": 32, **options})


class Changed(ThreadSession):
    """From a step on, the exchanged gradient of the last parameter is multiplied."""

    factor = 1.01

    def exchange(self):
        super().exchange()
        self.exchanges = getattr(self, "exchanges", 0) + 1
        if self.exchanges > CHANGED_STEP:
            self.parameters[-1].grad.mul_(self.factor)


class ChangedALittle(Changed):
    factor = 1 + 1e-6


class Unmoved(ThreadSession):
    """The last step's update moves one element of one parameter besides, after the gradients were seen."""

    def build_optimizer(self, model, make):
        optimizer = super().build_optimizer(model, make)
        update = optimizer.step
        steps = []

        def step(optimizer):
            update()
            steps.append(1)
            if len(steps) == STEPS:
                with torch.no_grad():
                    self.parameters[0].view(-1)[0] += 1

        optimizer.step = type(optimizer.step)(step, optimizer)
        return optimizer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**LANGUAGE_MODEL, "optimizer": "adamw", "clip": 0.1},
        {**LANGUAGE_MODEL, "autocast": "bf16", "accumulate": 2},
        {"model": "convnet", "channels": 4, "image": 8, "channels_last": True},
    ],
)
def test_kept_results_are_those_that_are_computed(kept, options):
    case, first, second = synthetic(**options), kept(), KeptResults()
    computed = prove(SYNTHETIC, case, steps=STEPS, results=first)
    assert first.computed
    assert prove(SYNTHETIC, case, steps=STEPS, results=second) == computed, "keeping changes nothing"
    third = kept()
    assert prove(SYNTHETIC, case, steps=STEPS, results=third) == computed
    assert third.computed == 0


@pytest.mark.parametrize(
    ("mistake", "verdict"), [(Changed, "different"), (Unmoved, "different"), (ChangedALittle, "same")]
)
def test_steps_that_differ_by_a_bit_are_compared_anew(kept, mistake, verdict):
    case = synthetic(**LANGUAGE_MODEL, optimizer="adam")
    prove(SYNTHETIC, case, steps=STEPS, results=kept())
    results = kept()
    found = prove(SYNTHETIC, case, mistake, steps=STEPS, results=results)
    assert found == prove(SYNTHETIC, case, mistake, steps=STEPS), "as if nothing were kept"
    assert found.verdict == verdict
    assert results.computed
    again = kept()
    assert prove(SYNTHETIC, case, mistake, steps=STEPS, results=again) == found
    assert again.computed == 0, "a mistake is kept as well"


@pytest.mark.parametrize(
    ("workload", "options"),
    [(ALLREDUCE, {"largest": 4096}), (ARRAY_MEAN, {"rows": 20, "columns": 20, "chunk": 10})],
)
def test_the_reference_of_other_work_is_computed_once_for_a_result(kept, workload, options):
    case, built = make_case(workload=workload.name, workload_options=options), []

    def make_reference():
        built.append(workload.build(case, Session(device="cpu")))
        return built[-1]

    def compare(result):
        return compare_with_reference(result, digest_tensors(result), make_reference, 1, kept())

    work = workload.build(case, Session(device="cpu"))
    samples, losses = work.verify(1)
    result = work.snapshot()
    first, second = compare(result), compare(result)
    assert (first.samples, first.losses, first.deviation, first.kept) == (samples, losses, 0.0, False)
    assert second == first.model_copy(update={"kept": True})
    assert len(built) == 1
    wrong = [*result[:-1], result[-1] * (1 + 1e-6)]
    different = compare(wrong)
    assert not different.kept
    assert different.deviation == pytest.approx(1e-6, rel=0.1), "another result is compared with a reference"
    assert len(built) == 2
    assert compare(wrong) == different.model_copy(update={"kept": True}), "a mistake is kept as well"


def test_nothing_is_left_out_of_a_random_model(kept):
    case = synthetic(**LANGUAGE_MODEL, dropout=0.1)
    first = prove(SYNTHETIC, case, results=kept())
    assert prove(SYNTHETIC, case, results=kept()) == first
    assert kept().file.exists() is False


@pytest.mark.parametrize("content", [b"", b"{", b'{"numbers": {"a": "b"}}', b"\xff"])
def test_a_damaged_file_is_as_none_and_is_replaced(kept, content):
    results = kept()
    results.file.parent.mkdir()
    results.file.write_bytes(content)
    found = prove(SYNTHETIC, synthetic(), results=kept())
    last = kept()
    assert prove(SYNTHETIC, synthetic(), results=last) == found
    assert last.computed == 0


def test_a_file_stands_for_a_case_and_what_its_results_depend_on(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def file_of(case, workload=SYNTHETIC, **variables):
        return open_kept_results(case, DDP, workload, "cpu", variables).file

    class OfAUser(Synthetic):
        keeps_results = False

    case = make_case()
    assert file_of(case) == file_of(case.model_copy(update={"own_cost": True, "window_s": 3.0, "chosen_window_s": 0.7}))
    others = [
        file_of(case.model_copy(update={"seed": 1})),
        file_of(case.model_copy(update={"tolerance": 0.1})),
        file_of(case, MKL_CBWR="COMPATIBLE"),
    ]
    assert len({file_of(case), *others}) == 4
    assert file_of(case, OfAUser()) is None
