"""Which node of a trial a process was on."""

from __future__ import annotations

import pytest

from bench.core.machine import NodeIdentity, find_node

TWINS = [NodeIdentity("worker", 0, "boot-a"), NodeIdentity("worker", 1, "boot-b")]
PODS = [NodeIdentity("job-0", 0, "boot-a"), NodeIdentity("job-1", 1, "boot-a")]


@pytest.mark.parametrize(
    ("process", "nodes", "found"),
    [
        (TWINS[1], TWINS, 1),
        (NodeIdentity("worker", 0, "boot-b"), TWINS, 1),
        (PODS[1], PODS, 1),
        (NodeIdentity("other", None, "boot-a"), PODS[:1], 0),
        (PODS[1], PODS[:1], None),
        (NodeIdentity("n2"), [NodeIdentity("n1"), NodeIdentity("n2")], 1),
        (NodeIdentity("n2", 1, "boot-c"), [NodeIdentity("n1", 0, "boot-a"), NodeIdentity("n2")], 1),
        (NodeIdentity("worker", 2, "boot-c"), TWINS, None),
        (NodeIdentity("n3"), TWINS, None),
    ],
    ids=[
        "machines of one name",
        "a rank that Slurm placed otherwise",
        "containers of one machine",
        "a container of that machine",
        "a container without a recording",
        "old records",
        "an old recording",
        "a third machine of that name",
        "no such host",
    ],
)
def test_the_boot_id_decides_then_the_number_then_the_name(process, nodes, found):
    assert find_node(process, nodes) == found
