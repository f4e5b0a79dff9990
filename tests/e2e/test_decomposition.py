"""Where the time goes, on real ranks: it adds up, whatever carries the gradients."""

from __future__ import annotations

import pytest

from bench.backends.fsdp import FsdpSession


@pytest.mark.alone
def test_every_backend_is_decomposed_alike(harness):
    document = harness.lean_sweep(
        "--backends",
        "single,ddp,horovod,dask,fsdp",
        "--workloads",
        "synthetic",
        "--ranks",
        "1,2",
        "--set",
        "horovod.transport=gloo,mpi",
        "--set",
        "dask.transport=tasks,gloo",
        "--window",
        "0.2",
        keeping=("decompose",),
    )
    assert {cell["outcome"] for cell in document["cells"]} == {"ok"}, "ranks that came apart would be invalid"
    for cell in document["cells"]:
        if cell["backend"] == "fsdp":
            # Its steps communicate whatever is left out: no number, and never 0.
            assert cell["decomposition"] is None
            assert cell["decomposition_reason"] == FsdpSession.no_sync_reason
            continue
        assert cell["decomposition_reason"] is None
        found = cell["decomposition"]
        parts = {name: part["value"] for name, part in found["parts_s"].items()}
        assert sum(parts.values()) == pytest.approx(found["step_s"]["value"], rel=1e-9)
        assert min(parts["forward"], parts["backward"], parts["optimizer"]) > 0
        assert parts["waiting"] >= 0
        assert "unattributed" in parts
        if cell["ranks"] == 2:
            assert parts["exposed"] > 0, "on one machine's CPUs the exchange is never free"
        else:
            assert parts["exposed"] == 0, "one rank communicates with no other"
        assert found["computation_scaling"] is not None
