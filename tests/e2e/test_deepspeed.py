"""The stages of ZeRO on real ranks: proven, with accumulation and recomputation, and their limits named."""

from __future__ import annotations

import pytest

from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks

pytest.importorskip("deepspeed", reason="needs the extra `deepspeed`")


def test_every_stage_is_proven_and_says_what_it_does_not_measure(harness, tmp_path_factory):
    options = {
        "synthetic.optimizer": "adamw",
        "synthetic.accumulate": "2",
        "synthetic.recompute": "blocks",
        "synthetic.checkpoint": "blocking",
        "synthetic.model": "transformer",
        "synthetic.width": "32",
        "synthetic.heads": "2",
        "synthetic.layers": "1",
        "synthetic.sequence": "8",
        "synthetic.vocabulary": "50",
        "deepspeed.stage": "1,2,3",
    }
    words = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    sampled = ("--ranks", "2", "--telemetry", "always")
    with gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as gpu:
        harness.env.update(gpu)
        document = harness.lean_sweep(
            "--backends", "deepspeed", "--workloads", "synthetic", *sampled, *words, keeping=("decompose",)
        )
    harness.nothing_left()
    check_stored_owners(harness.folder, gpu)
    assert len(document["cells"]) == 3
    for cell in document["cells"]:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), cell["reason"]
        assert cell["same_work"]["deviation"] < 1e-5
        assert cell["decomposition"] is None
        assert "takes none without it" in cell["decomposition_reason"]
        assert "save_checkpoint" in cell["reading_reasons"]["checkpoint_stall"]
