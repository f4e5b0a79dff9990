"""Links of a given rate: how they are spelled, and the commands that create them."""

from __future__ import annotations

import re

import pytest

from bench.host.links import (
    burst_bytes,
    hub_commands,
    node_address,
    node_commands,
    parse_rate,
    rate_bytes_s,
    shaping_commands,
)


@pytest.mark.parametrize(
    ("text", "net", "bytes_s"),
    [
        ("1gbit", "1gbit", 125e6),
        ("1000mbit", "1gbit", 125e6),
        ("2.5Gbit", "2.5gbit", 312.5e6),
        ("100mbit", "100mbit", 12.5e6),
        ("0.5mbit", "500kbit", 62_500),
        ("unshaped", "unshaped", None),
    ],
)
def test_a_rate_has_one_spelling(text, net, bytes_s):
    assert parse_rate(text) == net
    assert rate_bytes_s(net) == bytes_s
    assert parse_rate(net) == net


@pytest.mark.parametrize(
    "text", ["1gb", "fast", "0mbit", "0.5kbit", "1000000000gbit", "-1gbit", "1 gbit", "gbit", "1e9", ""]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="expected a rate like 100mbit"):
        parse_rate(text)


def test_a_port_of_the_hub_leads_to_each_namespace():
    commands = hub_commands(["/proc/7/fd/4", "/proc/7/fd/5"])
    assert "link add hub type bridge stp_state 0 mcast_snooping 0" in commands
    for port, namespace in (("port0", "/proc/7/fd/4"), ("port1", "/proc/7/fd/5")):
        assert f"link add {port} type veth peer name eth0 netns {namespace}" in commands
        assert f"link set {port} master hub" in commands


@pytest.mark.parametrize(
    "commands", [hub_commands(["/proc/7/fd/4"]), node_commands(1, "1gbit")], ids=["the hub", "a node"]
)
def test_a_device_has_no_ipv6_address_when_it_is_brought_up(commands):
    """A framework might choose that address, and its neighbour discovery is traffic of no rank."""
    for number, command in enumerate(commands):
        device = re.fullmatch(r"link set (\S+) up", command)
        if device and device[1] != "lo":
            assert commands[number - 1] == f"link set {device[1]} addrgenmode none"
    assert sum(command.endswith(" up") for command in commands) == 2


def test_a_node_has_an_address_and_packets_that_fit_its_bucket():
    commands = node_commands(1, "100mbit")
    assert commands[:2] == ["link set lo up", "address add 10.77.0.2/16 dev eth0"]
    assert "link set eth0 gso_max_size 7050" in commands
    assert 7050 < burst_bytes(12.5e6) == 7500
    assert not [command for command in node_commands(1, "unshaped") if "gso_max_size" in command]


def test_a_token_bucket_limits_each_device():
    assert shaping_commands(["port0", "port1"], "100mbit") == [
        f"qdisc add dev {port} root tbf rate 100mbit burst 7500 limit 632500" for port in ("port0", "port1")
    ]
    assert shaping_commands(["port0"], "unshaped") == []
    assert burst_bytes(8e3) == 4 * 1514, "four frames at least"


def test_many_nodes_have_addresses_of_their_own():
    assert len({node_address(number) for number in range(1000)}) == 1000
    assert node_address(300) == "10.77.1.45"
