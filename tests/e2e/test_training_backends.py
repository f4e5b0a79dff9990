"""The lossy and sharded ways of DDP and FSDP on real ranks: proven, and decomposed or not for a reason."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Harness

OPTIONS = {
    "synthetic.optimizer": "adamw",
    "synthetic.accumulate": "2",
    "synthetic.clip": "0.1",
    "synthetic.model": "transformer",
    "synthetic.width": "32",
    "synthetic.heads": "2",
    "synthetic.layers": "1",
    "synthetic.sequence": "8",
    "synthetic.vocabulary": "50",
    "ddp.optimizer_sharding": "zero",
    "ddp.compression": "none,bf16",
    "fsdp.param_dtype": "bf16",
    "fsdp.reduce_dtype": "float32,fp16",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("sweep"), preloaded=True)
    words = [word for name, value in OPTIONS.items() for word in ("--set", f"{name}={value}")]
    document = harness.lean_sweep(
        "--backends", "ddp,fsdp", "--workloads", "synthetic", "--ranks", "2", *words, keeping=("decompose",)
    )
    harness.nothing_left()
    return {
        (
            cell["backend"],
            cell["backend_options"].get("compression") or cell["backend_options"].get("reduce_dtype"),
        ): cell
        for cell in document["cells"]
    }


def test_each_is_proven_within_what_it_declares(cells):
    assert {
        name: (cell["outcome"], cell["same_work"]["verdict"], cell["same_work"]["label"])
        for name, cell in cells.items()
    } == {
        ("ddp", None): ("ok", "same", "float32"),
        ("ddp", "bf16"): ("ok", "same", "bfloat16 gradients"),
        ("fsdp", None): ("ok", "same", "float32, rounding of bfloat16"),
        ("fsdp", "fp16"): ("ok", "same", "float16 gradients, rounding of bfloat16"),
    }
    exact = [cells["ddp", None], cells["fsdp", None]]
    assert all(cell["same_work"]["deviation"] < 1e-5 for cell in exact), "these round as their reference does"
    lossy = [cells["ddp", "bf16"], cells["fsdp", "fp16"]]
    assert all(cell["same_work"]["deviation"] > 1e-5 for cell in lossy)


def test_a_sharded_optimizer_is_decomposed_and_a_sharded_model_says_why_not(cells):
    for compression in (None, "bf16"):
        parts = cells["ddp", compression]["decomposition"]["parts_s"]
        assert parts["exposed"]["value"] > 0
        assert parts["optimizer"]["value"] > 0
    for reduction in (None, "fp16"):
        assert cells["fsdp", reduction]["decomposition"] is None
        assert "gathers its parameters" in cells["fsdp", reduction]["decomposition_reason"]
