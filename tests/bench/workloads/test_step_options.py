"""The options of a step on a real exchange between threads: each is proven, and a mistake in one is caught."""

from __future__ import annotations

import pytest

from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from tests.support.builders import make_case

LANGUAGE_MODEL = {"model": "transformer", "width": 32, "heads": 2, "layers": 2, "sequence": 8, "vocabulary": 50}
IMAGES = {"model": "convnet", "channels": 8, "image": 8}


def case_of(ranks=2, batch=12, **options):
    return make_case(ranks=ranks, batch=batch, workload_options=options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "arithmetic"),
    [
        ({"precision": "bf16"}, "bfloat16"),
        ({"precision": "fp16"}, "float16"),
        ({"precision": "fp16", "clip": 0.1, "accumulate": 2}, "float16"),
        ({"recompute": "blocks"}, None),
        ({"recompute": "blocks", "precision": "bf16", "dropout": 0.1, "accumulate": 3}, "bfloat16"),
        ({**IMAGES, "channels_last": True}, None),
        ({**IMAGES, "channels_last": True, "precision": "bf16", "recompute": "blocks"}, "bfloat16"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_each_option_does_the_same_work(options, arithmetic):
    from tests.support.thread_ranks import prove

    found = prove(SYNTHETIC, case_of(**{**LANGUAGE_MODEL, "optimizer": "adamw", **options}))
    assert (found.verdict, found.reason) == ("same", None)
    assert found.deviation < 1e-4, "a rank's batch is rounded alike in the reference"
    assert (f"rounding of {arithmetic}" in found.label) == (arithmetic is not None)
    assert found.rounding < 0.05
