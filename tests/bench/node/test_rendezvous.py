"""Which node this is, for each site; Slurm's node lists; the one address that a server of rank 0 listens on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.backends.torch_distributed import hosts_store
from bench.core.rank_info import read_rank_info
from bench.host.network import bind_address
from bench.node.rendezvous import Rendezvous, RendezvousError, expand_nodes, read_rendezvous

SITES = {
    "ours": (
        {"SCALING_NODE": "1", "SCALING_NODES": "4", "MASTER_ADDR": "a", "MASTER_PORT": "7"},
        Rendezvous(1, 4, "a", 7),
    ),
    "slurm": (
        {"SLURM_NODEID": "2", "SLURM_NNODES": "4", "SLURM_JOB_NODELIST": "n[08-11]", "MASTER_PORT": "7"},
        Rendezvous(2, 4, "n08", 7),
    ),
    "slurm, a step on fewer nodes": (
        {
            "SLURM_NODEID": "0",
            "SLURM_NNODES": "4",
            "SLURM_JOB_NODELIST": "n[1-4]",
            "SLURM_STEP_NUM_NODES": "2",
            "SLURM_STEP_NODELIST": "n[3-4]",
            "MASTER_PORT": "7",
        },
        Rendezvous(0, 2, "n3", 7),
    ),
    "kubernetes": (
        {"JOB_COMPLETION_INDEX": "3", "SCALING_NODES": "4", "MASTER_ADDR": "j-0.s", "MASTER_PORT": "7"},
        Rendezvous(3, 4, "j-0.s", 7),
    ),
    "sagemaker": (
        {"SM_HOSTS": '["algo-10", "algo-2", "algo-1"]', "SM_CURRENT_HOST": "algo-10"},
        Rendezvous(2, 3, "algo-1", 29500),
    ),
}


@pytest.mark.parametrize("site", SITES)
def test_the_variables_of_each_site_identify_the_node(site):
    env, place = SITES[site]
    assert read_rendezvous(env) == place


def test_the_variables_of_the_harness_win_over_those_of_a_site():
    env = {**SITES["slurm"][0], **SITES["ours"][0]}
    assert read_rendezvous(env) == Rendezvous(1, 4, "a", 7)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "can't determine which node this is: none of .*SLURM_NODEID"),
        ({"SCALING_NODE": "0", "SCALING_NODES": "1"}, "MASTER_ADDR is not set"),
        (
            {"SCALING_NODE": "2", "SCALING_NODES": "2", "MASTER_ADDR": "a"},
            "node 2 of 2: nodes are numbered",
        ),
        (
            {"SCALING_NODE": "x", "SCALING_NODES": "2", "MASTER_ADDR": "a"},
            "beside SCALING_NODE=x can't be read",
        ),
        ({"SM_CURRENT_HOST": "algo-9", "SM_HOSTS": '["algo-1"]'}, "algo-9"),
        (
            {"SM_CURRENT_HOST": "algo-1", "SM_HOSTS": "algo-1"},
            "beside SM_CURRENT_HOST=algo-1 can't be read",
        ),
    ],
)
def test_what_is_missing_is_named(env, said):
    with pytest.raises(RendezvousError, match=said):
        read_rendezvous(env)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n1", ["n1"]),
        ("n[1-3,08],gpu7", ["n1", "n2", "n3", "n08", "gpu7"]),
        ("r[1-2]c[01-02]", ["r1c01", "r1c02", "r2c01", "r2c02"]),
        ("a-[9-11]-x", ["a-9-x", "a-10-x", "a-11-x"]),
    ],
)
def test_node_lists(text, nodes):
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "node list '' can't be read"),
        ("n[", r"node list 'n\[' can't be read"),
        ("n[a-b]", r"node list 'n\[a-b\]' can't be read"),
        ("n[1-99999999]", r"node list 'n\[1-99999999\]' has more than 100000 nodes"),
    ],
)
def test_a_node_list_that_can_t_be_read(text, problem):
    with pytest.raises(RendezvousError, match=problem):
        expand_nodes(text)


@settings(deadline=None)
@given(st.lists(st.integers(0, 999), min_size=1, unique=True))
def test_a_range_or_one_by_one_is_the_same(numbers):
    listed = "n[" + ",".join(map(str, numbers)) + "]"
    assert expand_nodes(listed) == expand_nodes(",".join(f"n{number}" for number in numbers))


@pytest.mark.parametrize(
    ("meeting", "own", "bound"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("n1", None, "10.0.0.7"),
        ("not known yet", None, "not known yet"),
        ("10.77.0.1", None, "10.77.0.1"),
        ("10.77.0.1", "10.0.0.5", "10.0.0.5"),
        ("127.0.1.1", "10.0.0.5", "10.0.0.5"),
        ("localhost", "10.0.0.5", "10.0.0.5"),
        ("::1", "fd00::5", "fd00::5"),
        ("not known yet", "10.0.0.5", "10.0.0.5"),
    ],
)
def test_a_server_listens_on_its_own_interface_however_its_name_is_resolved(meeting, own, bound):
    assert bind_address(meeting, own, resolve={"localhost": "127.0.0.1", "n1": "10.0.0.7"}.get) == bound


def test_torchrun_s_agent_serves_the_ranks_that_it_starts():
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    assert hosts_store(read_rank_info({**place, "RANK": "0"}), {})
    assert not hosts_store(read_rank_info({**place, "RANK": "1"}), {})
    assert not hosts_store(read_rank_info({**place, "RANK": "0"}), {"TORCHELASTIC_USE_AGENT_STORE": "True"})
