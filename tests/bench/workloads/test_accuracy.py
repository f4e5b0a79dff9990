"""Training to an accuracy: from the beginning, the same on several ranks, and nothing of it is left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bench.plugins.backend import Session
from bench.workloads.mnist import data
from bench.workloads.mnist.workload import WORKLOAD
from tests.bench.workloads.test_mnist_data import idx
from tests.support.builders import make_case
from tests.support.thread_ranks import ThreadGroup, ThreadSession

pytestmark = pytest.mark.frameworks


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Images that are easy: the bright row says the digit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, rng = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 512), ("t10k", 200)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
        images[np.arange(count), 2 * labels] = 255
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return data.prepare(str(folder), "mnist")


def case_of(source, ranks=1, **options):
    options = {"target_accuracy": 95.0, **options}
    return make_case(workload="mnist", workload_options=options, ranks=ranks, batch=32, data=source)


def readings_of(work):
    return {reading.name: reading for reading in work.finish()[0]}


def test_it_begins_anew_and_leaves_the_training_as_it_was(source):
    work = WORKLOAD.build(case_of(source), Session(0, 1))
    for _ in range(5):
        work.step()
    before = [tensor.clone() for tensor in work.snapshot()]
    first = readings_of(work)
    assert first["accuracy_reached"].value >= 95
    assert first["time_to_accuracy"].value > 0
    assert first["samples_to_accuracy"].unit == "samples"
    assert first["samples_to_accuracy"].value % (4 * 32) == 0, "whole quarters of an epoch of 16 steps"
    assert all((now == then).all() for now, then in zip(work.snapshot(), before, strict=True))
    work.step()
    assert readings_of(work)["samples_to_accuracy"] == first["samples_to_accuracy"]


def test_an_accuracy_that_is_not_reached_is_a_result_with_its_reason(source):
    work = WORKLOAD.build(case_of(source, target_accuracy=100.0, max_epochs=1), Session(0, 1))
    found = readings_of(work)
    if found["accuracy_reached"].value < 100:
        assert found["time_to_accuracy"].value is None
        assert "after 1 epoch, and 100 % is the target" in found["time_to_accuracy"].reason


def test_two_ranks_reach_it_with_the_same_samples(source):
    alone = readings_of(WORKLOAD.build(case_of(source), Session(0, 1)))
    case = case_of(source, ranks=2)
    group = ThreadGroup(2)
    works = [WORKLOAD.build(case, ThreadSession(rank, group)) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(readings_of, works))
    assert both[0]["samples_to_accuracy"] == both[1]["samples_to_accuracy"] == alone["samples_to_accuracy"]
    assert both[0]["time_to_accuracy"] == both[1]["time_to_accuracy"], "that of the slowest rank"


def test_a_graph_has_a_feed_of_its_own(source):
    reason = WORKLOAD.unsupported_reason(case_of(source, cuda_graph=True).model_copy(update={"device": "cuda"}))
    assert "target_accuracy" in reason or "cuda_graph" in reason
