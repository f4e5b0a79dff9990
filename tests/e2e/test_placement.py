"""Real ranks on nodes made of namespaces: the report tells what is inside a node from what crosses the links."""

from __future__ import annotations

import pytest

from harness.sites.local.networks import links_unavailable_reason

pytestmark = pytest.mark.skipif(
    links_unavailable_reason() is not None, reason=f"links can't be created: {links_unavailable_reason()}"
)

SUITE = """
backends = ["ddp"]
workloads = ["synthetic", "allreduce"]
nodes = [1, 2]
ranks_per_node = [2]
net = ["50mbit"]
threads = 1
warmup = 2
steps = 3
verify_steps = 1
decompose = false
repeats = 2
telemetry = "off"
[options.synthetic]
model = ["emulated"]
compute_ms = [50]
parameters = [200000]
[options.allreduce]
largest = ["1MiB"]
"""


def test_inside_a_node_is_told_from_across_nodes(harness):
    (harness.folder / "nodes.toml").write_text(SUITE)
    document = harness.sweep("nodes.toml", "--scaling", "weak", "--batch", "8")
    placed = {(cell["workload"], cell["nodes"], cell["ranks_per_node"], cell["ranks"]) for cell in document["cells"]}
    assert placed == {(workload, nodes, 2, 2 * nodes) for workload in ("synthetic", "allreduce") for nodes in (1, 2)}
    (split,) = [one for one in document["placements"] if one["nodes"] == 2]
    # 0.8 MB of gradients take 128 ms through such a link at the least; inside a node nothing is shaped.
    assert split["across"]["value"] < 0.7
    assert split["inside_reason"] == "1 rank on one node was not measured"
    bandwidth = {one["place"]: one["bus_bandwidth"] for one in document["exchanges"]}
    assert bandwidth["both"] < 50e6 / 8 < bandwidth["inside"]
    (layers,) = document["layers"]
    assert layers["source"] == "fitted"
    assert layers["misfits"][layers["algorithm"]]["typical"] < 1
