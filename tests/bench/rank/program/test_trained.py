"""Which batches are those of the training, and how large they are."""

from __future__ import annotations

import pytest

from bench.rank.program.batches import BatchCounter, sample_count, token_count
from bench.rank.program.marks import SLOTS, Marks
from bench.rank.program.trained import trained_in

X, Y, EVALUATION = "training data", "more training data", "evaluation data"


class Tensor:
    def __init__(self, *shape, dtype="torch.float32"):
        self.shape, self.dtype = shape, dtype


class Loader:
    def __init__(self, dataset):
        self.dataset = dataset


class Program:
    """Takes batches as an iterator of a DataLoader would count them, and ends steps."""

    def __init__(self):
        self.batches, self.marks, self.loaders = BatchCounter("samples"), Marks(), {}

    def fetch(self, data_set, samples=4, times=1):
        loader = self.loaders.setdefault(data_set, Loader(data_set))
        slot = self.batches._slot_of(loader)
        for _ in range(times):
            self.batches._count(slot, Tensor(samples), 1, 2)

    def end_step(self):
        self.marks.keep_amounts(self.batches.amounts, self.batches.used, self.batches.last_used)
        self.batches.step_ended()
        self.marks.count += 1

    def trained(self, first=1):
        trained = trained_in(self.marks, first, self.marks.count)
        return trained.amount, len(trained.loaders)


@pytest.fixture
def program():
    return Program()


def test_every_batch_of_an_accumulated_step_counts(program):
    for _ in range(5):
        program.fetch(X, times=3)
        program.end_step()
    assert program.trained() == (4 * 4 * 3, 1)


def test_batches_of_two_loaders_in_every_step_count_both(program):
    for _ in range(5):
        program.fetch(X)
        program.fetch(Y, samples=2)
        program.end_step()
    assert program.trained() == (4 * 6, 2)


def test_batches_of_an_evaluation_are_none_of_the_training(program):
    for step in range(12):
        program.fetch(X)
        program.end_step()
        if step % 4 == 3:
            program.fetch(EVALUATION, samples=100, times=10)
    assert program.trained() == (11 * 4, 1)


def test_a_program_may_make_another_loader_for_each_epoch(program):
    for epoch in range(3 * SLOTS):
        data_set = f"part {epoch}"
        for _ in range(3):
            program.fetch(data_set)
            program.end_step()
        program.fetch(EVALUATION, samples=100, times=2)
    assert program.trained()[0] == 4 * (program.marks.count - 1)


def test_one_batch_for_several_steps(program):
    for step in range(12):
        if step % 3 == 0:
            program.fetch(X, samples=30)
        program.end_step()
    assert program.trained(first=3) == (90, 1)


def test_a_program_without_loaders(program):
    program.end_step()
    program.end_step()
    assert program.trained() == (0, 0)


class Record:
    """Has its tensors as attributes, as a data class does."""

    def __init__(self):
        self.ids = Tensor(3, 7, dtype="torch.int64")


@pytest.mark.parametrize(
    ("batch", "samples", "tokens"),
    [
        (Tensor(8, 3), 8, 0),
        ((Tensor(8, 3), Tensor(8, dtype="torch.int64")), 8, 0),
        ([Tensor(4, 16, dtype="torch.int64"), Tensor(4, 16, dtype="torch.int64")], 4, 64),
        ({"mask": Tensor(4, 16), "input_ids": Tensor(4, 16, dtype="torch.int64")}, 4, 64),
        (({"image": [Tensor(5, 3, 2, 2)]}, "label"), 5, 0),
        (["a text", "another"], 2, 0),
        ([["a text", "another", "third"], [1, 2, 3]], 3, 0),
        (Record(), 3, 21),
        (Tensor(), 0, 0),
        (None, 0, 0),
        (7, 0, 0),
    ],
)
def test_how_large_a_batch_is(batch, samples, tokens):
    assert (sample_count(batch), token_count(batch)) == (samples, tokens)
