"""What measuring with the harness costs: our cells beside a minimal hand-written script, alternating."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.core.case import Case
from bench.workloads.mnist import data
from tests.perf import by_hand
from tests.perf.conftest import throughput

PAIRS, WARMUP, BATCH, RANKS = 12, 50, 128, 2
STEPS = {"synthetic": 200, "mnist": 1000}
MODELS = {"synthetic": "mlp", "mnist": "mnist"}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    split = data.load(data.prepare(None, "auto")).train
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    np.savez(path, images=split.images, labels=split.labels)
    return path


def script_rate(backend: str, workload: str, data: Path) -> float:
    return by_hand.rate(RANKS, backend, MODELS[workload], STEPS[workload], WARMUP, BATCH, data)


@pytest.mark.parametrize("workload", ["synthetic", "mnist"])
@pytest.mark.parametrize("backend", ["ddp", "horovod"])
def test_our_cell_beside_a_script_by_hand(side_by_side, images, backend, workload):
    case = Case(
        workload=workload,
        backend=backend,
        transport="gloo",
        ranks=RANKS,
        batch=BATCH,
        threads=1,
        steps=STEPS[workload],
        warmup=WARMUP,
        data=data.prepare(None, "auto"),
    )
    ratios = side_by_side(
        lambda: throughput(case),
        lambda: script_rate(backend, workload, images),
        PAIRS,
        f"samples/s of our {backend} {workload} cell ÷ the script's",
    )
    assert len(ratios) == PAIRS
