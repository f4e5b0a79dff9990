"""Each backend's other ways of carrying gradients, and each model: all of them proven to do the same work."""

from __future__ import annotations

from tests.e2e.conftest import by_title


def all_same(document) -> None:
    told = {cell["title"]: (cell["outcome"], cell["reason"]) for cell in document["cells"]}
    assert all(outcome == "ok" for outcome, _ in told.values()), told
    assert {cell["same_work"]["verdict"] for cell in document["cells"]} == {"same"}


def test_horovod_over_mpi_and_with_half_precision_gradients(harness):
    document = harness.lean_sweep(
        "--backends",
        "horovod",
        "--workloads",
        "synthetic",
        "--ranks",
        "2",
        "--set",
        "horovod.transport=gloo,mpi",
        "--set",
        "horovod.compression=none,fp16",
    )
    all_same(document)
    halves = [cell for cell in document["cells"] if cell["backend_options"].get("compression") == "fp16"]
    assert {cell["transport"] for cell in halves} == {"gloo", "mpi"}
    for cell in halves:
        assert cell["same_work"]["label"] == "float16 gradients"
        assert "loose_tolerance" in cell["flags"]
        assert cell["same_work"]["deviation"] > 1e-6, "half precision leaves its trace"
    harness.nothing_left()


def test_dask_carries_gradients_by_streams_whole_in_shards_or_by_gloo(harness):
    tasks = harness.lean_sweep(
        "--backends",
        "dask",
        "--workloads",
        "synthetic",
        "--ranks",
        "2,3",
        "--batch",
        "12",
        "--set",
        "dask.exchange=stream,direct,sharded",
    )
    all_same(tasks)
    assert len(tasks["cells"]) == 6
    gloo = harness.lean_sweep(
        "--backends",
        "dask",
        "--workloads",
        "synthetic,array_mean",
        "--ranks",
        "2",
        "--set",
        "dask.transport=gloo",
        "--set",
        "array_mean.rows=4000",
        "--set",
        "array_mean.columns=4000",
    )
    all_same(gloo)
    harness.nothing_left()


def test_knobs_reach_the_library(harness):
    document = harness.lean_sweep(
        "--backends",
        "ddp,horovod",
        "--workloads",
        "synthetic",
        "--ranks",
        "2",
        "--set",
        "ddp.bucket_cap_mb=1",
        "--set",
        "horovod.cycle_time_ms=0.1",
        "--set",
        "horovod.fusion_mb=1",
    )
    all_same(document)
    settings = {cell["backend"]: cell["settings"] for cell in document["cells"]}
    assert settings["ddp"]["bucket_cap_mb"] == "1.0"
    assert settings["horovod"]["cycle_time_ms"] == "0.1"
    assert settings["horovod"]["fusion_mb"] == "1"


def test_every_model_under_every_scaling(harness):
    document = harness.lean_sweep(
        "--backends",
        "ddp",
        "--workloads",
        "synthetic",
        "--ranks",
        "1,2",
        "--scaling",
        "strong,weak",
        "--batch",
        "16",
        "--set",
        "synthetic.model=mlp,toy,transformer,convnet",
    )
    all_same(document)
    assert len(document["cells"]) == 4 * 2 * 2


def test_emulated_compute_lets_ranks_outnumber_cores(harness):
    document = harness.lean_sweep(
        "--backends",
        "ddp,horovod,dask",
        "--workloads",
        "synthetic",
        "--ranks",
        "4",
        "--set",
        "synthetic.model=emulated",
        "--set",
        "synthetic.parameters=100000",
    )
    all_same(document)
    for cell in document["cells"]:
        assert "emulated_compute" in cell["flags"]
        assert "oversubscribed" not in cell["flags"]
        assert "emulated compute" in cell["title"]
        assert cell["step"]["value"] >= 0.005, "20 ms among 4 ranks is at least 5 ms a step"
    (waits,) = [cell["settings"]["waits"] for cell in document["cells"] if cell["backend"] == "horovod"]
    assert waits.startswith("sleep 0.2 ms"), "Horovod's own wait would take the cores of the ranks that it waits for"


def test_training_is_real(harness):
    document = harness.lean_sweep(
        "--backends",
        "ddp",
        "--workloads",
        "mnist",
        "--ranks",
        "2",
        "--set",
        "mnist.eval=true",
        "--set",
        "mnist.model=mlp",
    )
    all_same(document)
    (cell,) = by_title(document).values()
    assert cell["readings"]["test_accuracy"]["value"] > 60, "chance is 10 %"
