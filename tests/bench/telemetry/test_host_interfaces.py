"""Which network interfaces count, in trees like ``/sys/class/net``: the lowest ones, each byte once."""

from __future__ import annotations

import pytest

from bench.telemetry.probes.host.interfaces import InterfaceChoice, NetworkReader, choose_interfaces, parse_counters

ETHERNET, POINT_TO_POINT, IP_TUNNEL, INFINIBAND = 1, 65534, 768, 32


class Tree:
    """A folder like ``/sys/class/net``."""

    def __init__(self, folder):
        self.folder, self.index = folder, {}
        self.add("lo", flags=0x9, kind=772)

    def add(self, name, *links, other_end=None, kind=ETHERNET, flags=0x1003):
        """Add an interface with the entries ``links``; its other end is the interface of index ``other_end``."""
        self.index[name] = len(self.index) + 1
        entry = self.folder / name
        entry.mkdir()
        own = self.index[name]
        for file, text in {
            "ifindex": own,
            "iflink": own if other_end is None else other_end,
            "type": kind,
            "flags": hex(flags),
        }.items():
            (entry / file).write_text(f"{text}\n")
        for link in links:
            (entry / link).mkdir()
        return self

    def counted(self):
        return choose_interfaces(self.index, self.folder, self.index.__getitem__).names


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_a_bridge_over_the_physical_interface_counts_once(tree):
    tree.add("eth0", "device", "brport", "master").add("br0", "bridge", "lower_eth0")
    assert tree.counted() == ("eth0",)


def test_bonds_and_their_vlans_count_as_their_physical_interfaces(tree):
    tree.add("eth0", "device", "master").add("eth1", "device", "master").add("bond0", "lower_eth0", "lower_eth1")
    tree.add("bond0.7", "lower_bond0", other_end=4)
    assert tree.counted() == ("eth0", "eth1")


def test_containers_and_tunnels_of_a_machine_are_above_its_physical_interface(tree):
    tree.add("eth0", "device").add("docker0", "bridge", "lower_veth1").add("veth1", "brport", "master", other_end=9)
    tree.add("tun0", "tun_flags", kind=POINT_TO_POINT).add("wg0", kind=POINT_TO_POINT).add("vxlan0").add("ifb0")
    tree.add("tunl0", kind=IP_TUNNEL, other_end=0).add("macvlan0", "lower_eth0", other_end=2)
    assert tree.counted() == ("eth0",)


def test_an_accelerated_interface_of_a_virtual_machine_counts_by_its_lower_one(tree):
    """On Azure eth0 hands its packets to a virtual function, and its own counters include them."""
    tree.add("eth0", "device", "lower_enP1s1").add("enP1s1", "device", "master")
    assert tree.counted() == ("enP1s1",)


def test_infiniband_counts(tree):
    tree.add("ib0", "device", kind=INFINIBAND).add("eth0", "device")
    assert tree.counted() == ("eth0", "ib0")


def test_inside_a_container_its_own_veth_is_the_lowest(tree):
    tree.add("eth0", other_end=41).add("net1", other_end=43).add("tun0", "tun_flags", kind=POINT_TO_POINT)
    assert tree.counted() == ("eth0", "net1")


def test_a_container_inside_a_container_is_a_port_of_its_bridge(tree):
    tree.add("eth0", other_end=41).add("docker0", "bridge", "lower_veth1").add("veth1", "brport", other_end=9)
    assert tree.counted() == ("eth0",)


def test_a_veth_whose_ends_have_the_same_index_counts(tree):
    tree.add("eth0").add("tunl0", kind=IP_TUNNEL, other_end=0)
    assert tree.counted() == ("eth0",)


def test_a_container_without_root_has_a_tap_alone(tree):
    tree.add("tap0", "tun_flags").add("docker0", "bridge")
    assert tree.counted() == ("tap0",)


def test_a_single_interface_needs_no_tree(tmp_path):
    assert choose_interfaces(("lo", "eth0"), tmp_path / "none").names == ("eth0",)
    assert choose_interfaces(("lo",), tmp_path / "none").names == ()


def test_the_tree_of_another_namespace_says_nothing(tree):
    tree.add("eth0", "device").add("docker0", "bridge")
    choice = choose_interfaces(("lo", "eth0", "veth5"), tree.folder, tree.index.get)
    assert choice.names == ()
    assert "not of this network namespace: which of eth0, veth5 carry the same bytes is unknown" in choice.reason
    other_index = choose_interfaces(tree.index, tree.folder, lambda name: 77)
    assert "not of this network namespace" in other_index.reason


def test_a_tree_that_cannot_be_read_is_a_reason(tmp_path):
    choice = choose_interfaces(("lo", "eth0", "eth1"), tmp_path / "none")
    assert "can't be read (No such file or directory)" in choice.reason


def read(reader):
    return {sample.name: (sample.value, sample.reason) for sample in reader.read()}


def test_the_bytes_of_the_chosen_interfaces_are_summed_and_never_fall():
    counts = {"lo": 10, "eth0": 100, "br0": 100, "usb0": 7}
    reader = NetworkReader(None, lambda: counts, lambda names: InterfaceChoice(("eth0", "usb0")))
    assert read(reader) == {"network_bytes": (107, None), "loopback_bytes": (5, None)}
    counts["eth0"] = 150
    del counts["usb0"]
    assert read(reader)["network_bytes"] == (157, None)


def test_unknown_interfaces_leave_the_loopback_known():
    reader = NetworkReader(None, lambda: {"lo": 10, "a": 1, "b": 2}, lambda names: InterfaceChoice((), "why"))
    assert read(reader) == {"network_bytes": (None, "why"), "loopback_bytes": (5, None)}


def test_in_the_hub_of_a_network_its_ports_count_and_not_the_bridge():
    reader = NetworkReader(("port0", "port1"), lambda: {"lo": 1, "hub": 50, "port0": 100, "port1": 101})
    found = read(reader)
    assert found["network_bytes"] == (201, None)
    assert "loopback of its own" in found["loopback_bytes"][1]


def test_the_counters_of_interfaces_are_read_from_the_kernel_s_table():
    table = """Inter-|   Receive                  |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop …
    lo:    1000      10    0    0    0     0          0         0     1000      10    0    0
eth0:1:5000000000    7    0    0    0     0          0         0        3       2    0    0
"""
    assert parse_counters(table) == {"lo": 2000, "eth0:1": 5_000_000_003}
