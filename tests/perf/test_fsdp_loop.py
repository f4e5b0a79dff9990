"""Our fsdp cells beside a hand-written ``fully_shard`` loop with the same units, alternating."""

from __future__ import annotations

import pytest

from bench.core.case import Case
from tests.perf import by_hand
from tests.perf.conftest import throughput

PAIRS, WARMUP, BATCH, RANKS = 10, 20, 128, 2
STEPS = {"mlp": 100, "transformer": 40}


@pytest.mark.parametrize("model", STEPS)
def test_our_cell_beside_a_fully_shard_loop(side_by_side, model):
    case = Case(
        workload="synthetic",
        workload_options={} if model == "mlp" else {"model": model},
        backend="fsdp",
        transport="gloo",
        ranks=RANKS,
        batch=BATCH,
        threads=1,
        steps=STEPS[model],
        warmup=WARMUP,
        decompose=False,
    )
    ratios = side_by_side(
        lambda: throughput(case),
        lambda: by_hand.rate(RANKS, "fsdp", model, STEPS[model], WARMUP, BATCH),
        PAIRS,
        f"samples/s of our fsdp {model} cell ÷ the loop's",
    )
    assert len(ratios) == PAIRS
