"""Which processes of a case run on which node, and what their environment says."""

from __future__ import annotations

import pytest

from bench.core.case import SAMPLER_ROLE, Role
from bench.core.rank_info import read_rank_info
from bench.host.network import Interface
from bench.node.layout import LocalNode, NodeLayout, read_layout
from bench.node.rendezvous import Rendezvous, RendezvousError
from tests.support.builders import make_case

CASE = make_case(ranks=4, ranks_per_node=2, site="hosts")
RANKS, DRIVER = Role(name="rank", count=4), Role(name="driver", count=1)


def node_layout(node: int, nodes: int = 2, ranks_per_node: int = 2) -> NodeLayout:
    local = LocalNode(Interface("eth1", f"10.0.0.{node + 1}"), f"10.0.0.{node + 1}")
    return NodeLayout(Rendezvous(node, nodes, "a", 7), (local,), ranks_per_node)


def test_ranks_fill_nodes_one_after_the_other():
    layouts = [node_layout(0), node_layout(1)]
    assert [layout.process_numbers(RANKS) for layout in layouts] == [(0, 1), (2, 3)]
    assert [layout.process_numbers(DRIVER) for layout in layouts] == [(0,), ()]
    assert [layout.process_numbers(SAMPLER_ROLE) for layout in layouts] == [(0,), (1,)]


def test_a_node_may_be_half_full():
    case = make_case(ranks=2, ranks_per_node=8)
    layout = node_layout(0, case.nodes, case.ranks_on_a_node)
    assert layout.process_numbers(Role(name="rank", count=2)) == (0, 1)


def test_the_last_node_holds_the_processes_that_exceed_the_ranks():
    servers = Role(name="server", count=5)
    assert [node_layout(node).process_numbers(servers) for node in (0, 1)] == [(0, 1), (2, 3, 4)]


def test_a_rank_gets_its_number_and_the_interface_of_its_node():
    env = node_layout(1).environment(RANKS, 3)
    me = read_rank_info(env)
    assert (me.rank, me.world, me.local_rank, me.local_world) == (3, 4, 1, 2)
    assert (me.rendezvous_host, me.rendezvous_port, me.own_host) == ("a", 7, "10.0.0.2")
    assert (env["GLOO_SOCKET_IFNAME"], env["NCCL_SOCKET_IFNAME"]) == ("eth1", "=eth1")


def test_a_role_may_override_a_variable():
    role = Role(name="rank", count=2, env={"MASTER_ADDR": "b"})
    assert node_layout(0).environment(role, 0)["MASTER_ADDR"] == "b"


def test_a_launcher_gets_no_rank_of_its_own():
    env = node_layout(0).launcher_environment(RANKS)
    assert env["MASTER_ADDR"] == "a"
    assert not [name for name in env if "RANK" in name or "WORLD" in name]


def test_nodes_that_are_namespaces_share_the_machine():
    nodes = tuple(LocalNode(Interface("eth0", f"10.77.0.{n}"), f"10.77.0.{n}", f"/proc/7/fd/{n}") for n in (1, 2))
    layout = NodeLayout(Rendezvous(0, 2, "10.77.0.1", 7), nodes, 2, observer_namespace="/proc/7/fd/9")
    assert layout.process_numbers(RANKS) == (0, 1, 2, 3)
    assert [layout.node_of(RANKS, rank).namespace for rank in range(4)] == [
        f"/proc/7/fd/{number}" for number in (1, 1, 2, 2)
    ]
    me = read_rank_info(layout.environment(RANKS, 3))
    assert (me.local_rank, me.local_world, me.own_host) == (3, 4, "10.77.0.2"), "its cores are those of the machine"
    assert layout.node_of(SAMPLER_ROLE, 0).namespace == "/proc/7/fd/9"


def test_ranks_of_a_single_node_meet_on_its_loopback_interface_whatever_its_name_stands_for():
    env = {"SCALING_NODE": "0", "SCALING_NODES": "1", "MASTER_ADDR": "public.example", "MASTER_PORT": "7"}
    layout = read_layout(make_case(ranks=2), env)
    assert layout.rendezvous == Rendezvous(0, 1, "127.0.0.1", 7)
    (node,) = layout.local_nodes
    assert (node.interface.address, node.address) == ("127.0.0.1", None)
    # Slurm names no address: the name is the host's own.
    slurm = {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "public"}
    assert read_layout(make_case(ranks=2), slurm).rendezvous.rendezvous_host == "127.0.0.1"


def test_a_layout_is_read_from_the_environment():
    env = {"SCALING_NODE": "0", "SCALING_NODES": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "7"}
    layout = read_layout(make_case(ranks=2), env)
    assert layout.rendezvous == Rendezvous(0, 1, "127.0.0.1", 7)
    (node,) = layout.local_nodes
    assert (node.interface.address, node.address, node.namespace) == ("127.0.0.1", None, None)
    with pytest.raises(RendezvousError, match="MASTER_ADDR is not set"):
        read_layout(CASE, {"SCALING_NODE": "0", "SCALING_NODES": "2"})
