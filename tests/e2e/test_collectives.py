"""Collective operations of real ranks under each library: checked, timed, reported; variables of theirs as an axis."""

from __future__ import annotations

import pytest

from bench.core.collectives import COLLECTIVES, bus_factor
from tests.e2e.conftest import Harness

BACKENDS = ("ddp", "horovod", "dask")
MISSING = {
    ("horovod", "gloo"): {"send_recv"},
    ("dask", "tasks"): set(COLLECTIVES) - {"all_reduce", "all_gather"},
}
"""What a backend does not have, by its transport."""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("collectives"), preloaded=True)
    document = harness.lean_sweep(
        *("--workloads", "collectives", "--backends", ",".join(BACKENDS), "--ranks", "2"),
        *("--set", f"collectives.operation={','.join(COLLECTIVES)}"),
        *("--set", "collectives.end=1MiB", "--set", "collectives.factor=32"),
        *("--env", "GLOO_UNREAD=1"),
    )
    harness.nothing_left()
    return document


def test_every_operation_of_every_library_gives_what_it_must(swept):
    assert {cell["title"]: cell["reason"] for cell in swept["cells"] if cell["outcome"] != "ok"} == {}
    found = {
        (cell["backend"], cell["transport"], cell["workload_options"].get("operation", "all_reduce"))
        for cell in swept["cells"]
    }
    paths = {("ddp", "gloo"), *MISSING}
    assert found == {
        (*path, operation) for path in paths for operation in COLLECTIVES if operation not in MISSING.get(path, ())
    }
    assert {cell["same_work"]["verdict"] for cell in swept["cells"]} == {"same"}


def test_mpi_performs_them_too(tmp_path):
    harness = Harness(tmp_path, preloaded=True)
    document = harness.lean_sweep(
        *("--workloads", "collectives", "--backends", "horovod", "--set", "horovod.transport=mpi", "--ranks", "2"),
        *("--set", "collectives.operation=reduce_scatter,all_to_all", "--set", "collectives.end=1KiB"),
    )
    assert {(cell["outcome"], cell["same_work"]["verdict"]) for cell in document["cells"]} == {("ok", "same")}
    harness.nothing_left()


def test_what_a_library_lacks_is_said_with_the_reason(swept):
    reasons = {entry["reason"] for entry in swept["not_applicable"]}
    assert len(swept["not_applicable"]) == sum(map(len, MISSING.values()))
    assert reasons == {
        "Horovod has no transfer between two ranks",
        "Dask's exchange sends the whole array of each rank to all ranks",
    }


def test_times_and_bandwidths_of_each_size(swept):
    for cell in swept["cells"]:
        assert [message["message_bytes"] for message in cell["messages"]] == [1024, 32768, 2**20]
        for message in cell["messages"]:
            bandwidth = message["message_bytes"] / message["time_s"]["value"]
            assert message["algorithm_bandwidth"]["value"] == pytest.approx(bandwidth)
            assert message["bus_bandwidth"]["value"] == pytest.approx(bus_factor(message["operation"], 2) * bandwidth)


def test_the_ranks_had_the_variable_of_the_case(swept):
    for cell in swept["cells"]:
        assert cell["variables"]["GLOO_UNREAD"] == "1"
        assert cell["env"] == {"GLOO_UNREAD": "1"}
