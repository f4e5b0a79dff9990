"""A user's own model as a workload: its data of every kind is proven, and each mistake is named."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import Field

from bench.plugins.backend import Session
from bench.plugins.workload import DataProblem
from bench.workloads import StepOptions, TrainingWorkload
from bench.workloads.own_model.feeds import Share, gathered_batches
from harness.planning.options import option_combinations
from tests.support.builders import make_case
from tests.support.thread_ranks import ThreadGroup, ThreadSession, prove

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.frameworks
nn = torch.nn
ROWS = 56


class Rows(torch.utils.data.Dataset):
    """Row k holds the number k."""

    def __len__(self):
        return ROWS

    def __getitem__(self, number):
        row = torch.full((6,), number / ROWS)
        return row, row[:4]


def tensors():
    inputs = torch.arange(ROWS * 6.0).view(ROWS, 6) / ROWS / 6
    return inputs, inputs[:, :4]


def drawn_batches():
    while True:
        inputs = torch.randn(5, 6)
        yield inputs, inputs[:, :4]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(Rows()[number] for number in range(ROWS))


DATA = {
    "tensors": tensors,
    "arrays": lambda: tuple(tensor.numpy() for tensor in tensors()),
    "dataset": Rows,
    "dataset_object": Rows(),
    "list": [(torch.full((6,), number / ROWS), torch.zeros(4)) for number in range(ROWS)],
    "loader": lambda: torch.utils.data.DataLoader(Rows(), batch_size=5, shuffle=True),
    "loader_object": torch.utils.data.DataLoader(Rows(), batch_size=20),
    "generator": drawn_batches,
    "ending_generator": lambda seed: iter([tensors()]),
    "iterable_dataset": Stream(),
}


def dropping():
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 4))


def workload(**changes):
    given = {"name": "own", "model": lambda: nn.Linear(6, 4), "loss": nn.MSELoss(), "data": tensors, **changes}
    return TrainingWorkload(**given)


def case(ranks=2, batch=12, **changes):
    return make_case(ranks=ranks, batch=batch, workload="own", **changes)


@pytest.fixture(autouse=True)
def _one_thread_a_rank():
    torch.set_num_threads(1)


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_every_kind_of_data_is_proven(data):
    # Five passes of 4 steps over most of them: each begins anew.
    found = prove(workload(data=data, model=dropping), case(), steps=20)
    assert (found.verdict, found.reason) == ("same", None)


@pytest.mark.parametrize("name", DATA)
def test_a_step_takes_the_same_samples_on_any_number_of_ranks(name):
    def batches(rank, world):
        feed = workload(data=DATA[name]).build(case(world), ThreadSession(rank, _Group(world))).feed
        return [(feed.next(), feed.last_samples()) for _ in range(6)]

    whole, parts = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    for step, ((inputs, targets), numbers) in enumerate(whole):
        for rank, part in enumerate(parts):
            (own_inputs, own_targets), own_numbers = part[step]
            assert own_numbers == numbers[rank::3]
            assert torch.equal(own_inputs, inputs[rank::3])
            assert torch.equal(own_targets, targets[rank::3])


class _Group:
    def __init__(self, world):
        self.world = world


def test_processes_that_read_ahead_give_the_samples_in_order():
    built = workload(data=Rows()).build(case(1, workload_options={"workers": 2}), Session())
    for _ in range(10):
        inputs, _ = built.fetch()
        assert [round(float(row[0]) * ROWS) for row in inputs] == list(built.last_samples())


def test_batches_of_another_form_have_a_loss_of_the_model_and_the_batch():
    def loss(model, batch):
        return (model(batch["features"]) - batch["wanted"]).square().mean()

    data = dict(zip(("features", "wanted"), tensors(), strict=True))
    found = prove(workload(data=data, loss=loss), case())
    assert (found.verdict, found.reason) == ("same", None)
    found = prove(workload(data=data, loss=loss, accumulate=3), case())
    assert (found.verdict, found.reason) == ("same", None)


def test_inputs_may_be_several_tensors():
    def loss(model, batch):
        (first, second), wanted = batch
        return (model(first + second) - wanted).square().mean()

    inputs, targets = tensors()
    found = prove(workload(data=((inputs, -inputs / 2), targets), loss=loss, accumulate=2), case())
    assert (found.verdict, found.reason) == ("same", None)


class Width(StepOptions):
    width: int = Field(8, ge=1, description="of the hidden layer")


def test_options_are_axes_and_the_file_gives_their_defaults():
    def model(options):
        return nn.Sequential(nn.Linear(6, options.width), nn.Linear(options.width, 4))

    made = workload(model=model, options=Width, accumulate=2, clip=0.5, optimizer="adamw")
    assert made.options().accumulate == 2
    assert made.options().model_dump(exclude_defaults=True) == {}
    fields = made.options.model_fields
    assert (fields["clip"].default, fields["width"].description) == (0.5, "of the hidden layer")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        made.options(accumulate=0)
    built = made.build(case(1, workload_options={"width": 3, "accumulate": 3}), Session())
    assert (built.model[0].out_features, built.accumulate, built.options.clip) == (3, 3, 0.5)
    assert isinstance(built.optimizer, torch.optim.AdamW)


def test_cases_name_the_defaults_of_the_file_and_no_others():
    """Else two files of one name with other defaults, or a value beside the default, would be one case."""
    options = workload(accumulate=4, optimizer=lambda parameters: None).options
    planned = option_combinations("workload.own", options, {"accumulate": ("1", "4"), "clip": ("2",)})
    assert planned == [{"accumulate": accumulate, "optimizer": "own", "clip": 2.0} for accumulate in (1, 4)]
    assert option_combinations("workload.own", workload().options, {}) == [{}]


def test_the_optimizer_of_the_file_is_one_value_of_an_axis():
    made = workload(optimizer=lambda parameters: torch.optim.Adagrad(parameters, lr=0.1))
    assert made.options().optimizer == "own"
    assert isinstance(made.build(case(1), Session()).optimizer, torch.optim.Adagrad)
    other = made.build(case(1, workload_options={"optimizer": "adam"}), Session())
    assert isinstance(other.optimizer, torch.optim.Adam)


def test_tokens_are_counted_and_another_unit_by_its_function():
    def embed():
        return nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 4))

    data = (torch.arange(ROWS * 5).view(ROWS, 5) % 10, torch.zeros(ROWS, 4))
    tokens = [workload(model=embed, data=data, unit="tokens").build(case(ranks), _session(ranks)) for ranks in (1, 3)]
    assert [(built.unit, built.amount_per_step) for built in tokens] == [("tokens", 60.0), ("tokens", 60.0)]
    counted = workload(unit="pixels", count=lambda batch: batch[0].numel()).build(case(3), _session(3))
    assert (counted.unit, counted.amount_per_step) == ("pixels", 72.0)
    assert workload(unit="images").build(case(3), _session(3)).amount_per_step == 12


def _session(ranks):
    return Session() if ranks == 1 else ThreadSession(0, _Group(ranks))


def test_a_schedule_is_proven_and_sees_the_options():
    def schedule(optimizer, options):
        return torch.optim.lr_scheduler.StepLR(optimizer, options.accumulate, gamma=0.5)

    made = workload(schedule=schedule, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    found = prove(made, case(), steps=4)
    assert (found.verdict, found.reason) == ("same", None)
    built = made.build(case(1), Session())
    built.step()
    assert built.optimizer.param_groups[0]["lr"] == 0.05


def test_a_model_of_bfloat16_is_looked_at_in_the_precision_of_the_step():
    made = workload(model=lambda: nn.Linear(6, 4).bfloat16(), loss=lambda out, target: (out - target).square().mean())
    assert made.build(case(1, workload_options={"precision": "bf16"}), Session()).accumulate == 1
    with pytest.raises(RuntimeError, match="on a batch of float32"):
        made.build(case(1), Session())


def test_images_are_laid_out_as_the_options_say():
    def model():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    made = workload(model=model, data=(torch.zeros(ROWS, 3, 8, 8), torch.zeros(ROWS, 4)))
    built = made.build(case(1, workload_options={"channels_last": True}), Session())
    assert built.fetch()[0].is_contiguous(memory_format=torch.channels_last)


def test_models_that_take_their_shape_from_the_first_batch_are_proven():
    found = prove(workload(model=lambda: nn.LazyLinear(4)), case())
    assert (found.verdict, found.reason) == ("same", None)


# Mistakes


DECLARED = {
    "model is made when the file is imported": {"model": nn.Linear(6, 4)},
    "loss is the class MSELoss: give an instance of it, MSELoss()": {"loss": nn.MSELoss},
    "optimizer is made already": {"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters())},
    "data is an iterator, which can be read once": {"data": iter([tensors()])},
    "data is str 'train.bin'; it is tensors": {"data": "train.bin"},
    "data is NoneType None; it is tensors": {"data": None},
    "model is NoneType None; it is a function": {"model": None},
    "options is type <class 'int'>; it is a class that derives from StepOptions": {"options": int},
    "unit is 3; it is one word": {"unit": 3},
    "unit is 'tokens per second'; it is one word": {"unit": "tokens per second"},
    "accumulate is 0: ": {"accumulate": 0},
    "optimizer is 'adan': ": {"optimizer": "adan"},
    "TrainingWorkload has no argument 'clipp'": {"clipp": 1.0},
}


@pytest.mark.parametrize("message", DECLARED)
def test_a_mistake_in_what_is_declared_is_named_when_the_file_is_imported(message):
    with pytest.raises((TypeError, ValueError)) as caught:
        workload(**DECLARED[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Random(Rows):
    def __getitem__(self, number):
        return torch.randn(6), torch.zeros(4)


class Text(Rows):
    def __getitem__(self, number):
        return torch.zeros(6), "a label"


class Ragged(Rows):
    def __getitem__(self, number):
        return torch.zeros(6 - number % 2), torch.zeros(4)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.head = nn.Linear(6, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        return self.used(inputs)


class Elsewhere(nn.Module):
    """Holds a tensor that is no buffer on another device."""

    def __init__(self):
        super().__init__()
        self.layer, self.offset = nn.Linear(6, 4), torch.zeros(4, device="meta")

    def forward(self, inputs):
        return self.layer(inputs) + self.offset


STRAY = nn.Linear(6, 4)
BUILT = {
    "loss returns a tensor of shape (2, 4); it returns the mean": {"loss": lambda out, target: out - target},
    "loss returns float 1.5; it returns a tensor": {"loss": lambda out, target: 1.5},
    "loss returns None; it returns a tensor: is its `return` missing?": {"loss": lambda out, target: None},
    "loss returns a number that does not depend on a trained": {"loss": lambda out, target: (out.detach()).mean()},
    "loss takes one argument, and gets 2": {"loss": lambda out: out.mean()},
    "loss takes 'weight', which it does not get; it may take": {"loss": lambda out, target, weight: out.mean()},
    "model takes 'hidden', which it does not get; it may take options, seed": {"model": lambda hidden: hidden},
    "data takes 'folder', which it does not get; it may take options, seed, batch": {"data": lambda folder: folder},
    "model returns int 3; it returns a torch.nn.Module": {"model": lambda: 3},
    "the model has no parameter to train": {"model": nn.Flatten},
    "weight, bias on the meta device": {"model": lambda: nn.Linear(6, 4, device="meta")},
    "make what is not on cpu a buffer": {"model": Elsewhere},
    "mat1 and mat2 shapes cannot be multiplied": {"model": lambda: nn.Linear(7, 4)},
    "on a batch of float32 (2, 6), float32 (2, 4): ": {"model": lambda: nn.Linear(7, 4)},
    "data has 56 samples, and a step of all ranks takes 64": {"batch": 64},
    "data has 5 samples, and a step of all ranks takes 12": {"data": lambda: iter([(torch.zeros(5, 6),) * 2])},
    "data has 0 samples": {"data": lambda: iter([])},
    "a batch of data holds str 'a label'; it is made of tensors": {"data": Text()},
    "samples of data can't be made a batch": {"data": Ragged()},
    "sample 0 of data is another one when it is read again": {"data": Random()},
    "a batch of data is float32 (56, 6), float32 (55, 4); the first": {
        "data": lambda: (tensors()[0], tensors()[1][1:])
    },
    "data is tuple ('a', 'b'); it is a Dataset": {"data": lambda: ("a", "b")},
    "takes batches of inputs and targets; those of data are float32 (12, 6)": {"data": lambda: tensors()[0]},
    "optimizer returns NoneType None": {"optimizer": lambda parameters: None},
    "updates 2 parameters that are not the trained model's": {
        "optimizer": lambda parameters: torch.optim.SGD(STRAY.parameters(), lr=0.1)
    },
    "the step of LBFGS takes a closure": {"optimizer": torch.optim.LBFGS},
    "schedule returns a ReduceLROnPlateau": {"schedule": torch.optim.lr_scheduler.ReduceLROnPlateau},
    "the first tensor of a batch is float32 (12, 6), not integers": {"unit": "tokens"},
    "count(batch) is 0; it is a number above 0": {"count": lambda batch: 0},
}


@pytest.mark.parametrize("message", BUILT)
def test_a_mistake_of_a_function_is_named_before_anything_is_measured(message):
    changes = dict(BUILT[message])
    batch = changes.pop("batch", 12)
    with pytest.raises((TypeError, ValueError, RuntimeError, DataProblem)) as caught:
        workload(**changes).build(case(1, batch), Session())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_of_the_file_is_named():
    with pytest.raises(RuntimeError, match=r"ValueError: too few \(line \d+\)$"):
        workload(model=Fails).build(case(1), Session())


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, inputs):
        raise ValueError("too few")


class WaitsForAll(ThreadSession):
    unused_parameters_remedy = "--set ddp.find_unused_parameters=true"


def test_parameters_without_a_gradient_are_named_where_the_exchange_waits_for_them():
    session = WaitsForAll(0, _Group(2))
    expected = r"the model's head.weight, head.bias, .* or --set ddp.find_unused_parameters=true$"
    with pytest.raises(ValueError, match=expected):
        workload(model=Unused).build(case(), session)
    workload(model=Unused).build(case(), ThreadSession(0, _Group(2)))


def test_looking_at_a_batch_leaves_the_model_as_it_was():
    def normalizing():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))

    built = workload(model=normalizing).build(case(1), Session())
    assert int(built.model[1].num_batches_tracked) == 0
    assert all(parameter.grad is None for parameter in built.model.parameters())
    found = prove(workload(model=normalizing), case())
    assert (found.verdict, "as in batch normalization" in found.reason) == ("different", True)


def test_data_that_differs_between_ranks_is_named_on_all_of_them():
    draws = iter(range(100))
    made = workload(data=lambda: (torch.randn(ROWS, 6) + next(draws), torch.zeros(ROWS, 4)))
    group = ThreadGroup(2)
    works = [made.build(case(), ThreadSession(rank, group)) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        failures = [future.exception() for future in [pool.submit(work.fetch) for work in works]]
    for failure in failures:
        assert isinstance(failure, DataProblem)
        assert "the ranks have different data: make it from `seed` alone" in str(failure)


def test_clipping_before_the_exchange_is_caught():
    """As with hooks that clip each rank's gradients."""

    def clipping():
        model = nn.Linear(6, 4)
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: gradient * (0.01 / gradient.norm()).clamp(max=1))
        return model

    data = (torch.randn(ROWS, 6), torch.randn(ROWS, 4))
    found = prove(workload(model=clipping, data=data), case())
    assert found.verdict == "different"
    assert "gradient of a batch deviates" in found.reason


@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1)])
def test_batches_are_the_same_however_many_are_gathered_at_once(world, rank):
    share = Share(rank, world, "cpu", global_batch=4, seed=3)
    tensors = [torch.randn(18, 3), torch.arange(18)]

    def first(count, together):
        return list(itertools.islice(gathered_batches(tensors, share, together), count))

    one_by_one, at_once = first(9, 1), first(9, 3)
    for (numbers, leaves), (other_numbers, other_leaves) in zip(one_by_one, at_once, strict=True):
        assert torch.equal(numbers, other_numbers)
        assert all(map(torch.equal, leaves, other_leaves))
        assert torch.equal(leaves[1], numbers), "the rows with these numbers"
    assert len(one_by_one[0][0]) == 4 // world
