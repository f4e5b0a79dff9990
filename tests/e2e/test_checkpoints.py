"""What saving costs, on real ranks of every kind, and where the disk has no room for it."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import LEAN, Harness

WAYS = ("blocking", "async", "distributed")
STATE_BYTES = 3 * 4 * (784 * 1024 + 1024 + 1024 * 10 + 10)
"""A float32 parameter of the model and both moments of Adam."""
SAVING = ("--workloads", "synthetic", "--ranks", "2", "--set", "synthetic.optimizer=adam", "--window", "0.2")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    harness = Harness(tmp_path_factory.mktemp("sweep"), preloaded=True)
    options = ("--set", f"synthetic.checkpoint={','.join(WAYS)}", "--set", "ddp.optimizer_sharding=zero")
    document = harness.lean_sweep("--backends", "ddp,fsdp", *SAVING, *options)
    harness.nothing_left()
    return {(cell["backend"], cell["workload_options"]["checkpoint"]): cell for cell in document["cells"]}


def test_every_way_is_measured(cells):
    assert len(cells) == 2 * len(WAYS)
    for (_, way), cell in cells.items():
        assert cell["outcome"] == "ok", cell["reason"]
        readings = cell["readings"]
        assert cell["reading_reasons"] == {}
        # What is not sharded is written once, whoever writes it.
        assert STATE_BYTES < readings["checkpoint_size"]["value"] < 1.1 * STATE_BYTES
        assert readings["checkpoint_stall"]["value"] > 0
        if way == "async":
            assert readings["checkpoint_write"]["value"] > 0
        else:
            assert readings["checkpoint_write"]["value"] >= readings["checkpoint_stall"]["value"]


def test_a_disk_without_room_is_named_and_the_window_counts(room):
    harness = room("mount -t tmpfs -o size=1m tmpfs disk")
    (harness.folder / "lean.toml").write_text(LEAN)
    folder = harness.folder / "disk"
    options = ("--set", "synthetic.checkpoint=blocking", "--set", f"synthetic.checkpoint_folder={folder}")
    (cell,) = harness.sweep("lean.toml", "--backends", "ddp", *SAVING, *options)["cells"]
    assert cell["throughput"]["value"] > 0
    assert cell["readings"]["checkpoint_stall"] is None
    (condition,) = [found for found in cell["conditions"] if found["name"] == "not_measured"]
    assert f"no space for a checkpoint on the disk of {folder}" in condition["seen"]
    assert harness.inside("sh", "-c", 'test -z "$(ls -A disk)"') == 0
