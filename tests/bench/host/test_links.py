"""Links of a stated rate: how they are asked for, and the lines that make them."""

from __future__ import annotations

import re

import pytest

from bench.backends.ddp import BACKEND as DDP
from bench.core.records import Link
from bench.host.links import (
    hub_commands,
    node_address,
    node_commands,
    parse_rate,
    port_names,
    rate_bytes_s,
    shaping_commands,
)
from bench.telemetry.probes.host import HostProbe
from harness.sites.local import networks
from harness.sites.local.site import SITE
from reports.analysis import case_titles
from reports.analysis.cells import make_cells
from reports.analysis.findings import group_cells
from tests.support.builders import make_case, make_trial
from tests.support.paths import GOLDEN


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


@pytest.mark.parametrize("net", ["100mbit", "unshaped"])
def test_lines_for_ip_and_tc(net):
    parts = {
        "ip, in the hub": hub_commands(["/proc/7/fd/4", "/proc/7/fd/5"]),
        "tc, in the hub": shaping_commands(port_names(2), net),
        "ip, in node 1's namespace": node_commands(1, net),
        "tc, in node 1's namespace": shaping_commands(["eth0"], net),
    }
    said = "".join("\n".join([f"# {title}", *lines]) + "\n" for title, lines in parts.items())
    assert said == (GOLDEN / f"links-{net}.txt").read_text()


def test_many_nodes_have_addresses_of_their_own():
    assert len({node_address(number) for number in range(1000)}) == 1000
    assert node_address(300) == "10.77.1.45"


@pytest.mark.parametrize(
    ("changes", "addresses"), [({"ranks": 2}, ["1", "2"]), ({"ranks": 4, "ranks_per_node": 2}, ["1", "1", "2", "2"])]
)
def test_ranks_meet_over_the_links(changes, addresses):
    case = make_case(net="1gbit", **changes)
    lines = SITE.render(case, DDP.launch(case))["commands.sh"].splitlines()
    assert all("MASTER_ADDR=10.77.0.1 " in line and "GLOO_SOCKET_IFNAME=eth0 " in line for line in lines)
    assert [re.search(r" OWN_ADDR=10\.77\.0\.(\S+)", line)[1] for line in lines] == addresses
    # Their cores are this machine's.
    assert [f" LOCAL_RANK={number} " in line for number, line in enumerate(lines)] == [True] * case.ranks


def test_nodes_without_a_network_are_other_machines():
    assert "--net joins nodes made of namespaces" in networks.unavailable_reason(make_case(ranks=4, ranks_per_node=2))
    assert networks.unavailable_reason(make_case(ranks=2, ranks_per_node=2)) is None, "one node: this machine"


def test_the_network_of_a_hub_is_the_links_and_its_loopback_says_nothing():
    found = {reading.name: reading for reading in HostProbe((0,), in_network_hub=True).read()}
    assert found["network_bytes"].value is not None
    assert found["loopback_bytes"].value is None
    assert "loopback of its own" in found["loopback_bytes"].reason


def test_a_net_is_part_of_the_key_only_where_there_is_one():
    assert make_case(net="1gbit").curve == f"{make_case().curve}/net=1gbit"
    assert make_case(net="1gbit").curve != make_case(net="100mbit").curve


def linked(net, achieved_bytes_s):
    case = make_case(net=net)
    link = Link(net=net, wanted_bytes_s=rate_bytes_s(net), achieved_bytes_s=achieved_bytes_s, round_trip_s=2e-5)
    return make_cells([case], {}, [make_trial(case, link=link)], {})[0]


def test_links_that_carry_less_than_their_rate_are_flagged():
    assert "slow_links" not in linked("1gbit", 119e6).flags
    assert "slow_links" in linked("10gbit", 500e6).flags
    assert "slow_links" not in linked("unshaped", 1.0).flags


def test_nets_are_told_apart_and_named():
    cells = [linked("1gbit", 119e6), linked("100mbit", 11.9e6), linked("unshaped", 1e9)]
    assert len(group_cells(cells)) == 3
    assert [case_titles.case_title(cell.case) for cell in cells] == [
        f"synthetic, {name} links · ddp/gloo · 2 ranks · strong" for name in ("1 Gbit/s", "100 Mbit/s", "unshaped")
    ]
    said = "1 Gbit/s links: 119 MB/s of payload each way at once (95 % of the rate), round trip 20.0 µs"
    assert case_titles.link_summary(cells[0].link) == said
