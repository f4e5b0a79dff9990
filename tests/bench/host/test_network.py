"""Host names and network interfaces."""

from __future__ import annotations

import socket

import pytest

from bench.host.network import (
    HOSTNAME_POLL_INTERVAL_S,
    Interface,
    InterfaceError,
    address_of_own_name,
    check_rendezvous_interface,
    first_address,
    ipv4_addresses,
    select_interface,
    wait_for_hostnames,
)
from tests.support.clocks import FakeClock


class Resolver:
    """Looks up names that become known at a number of look-ups, and counts these."""

    def __init__(self, known_from: dict[str, int]) -> None:
        self.known_from = known_from
        self.lookups: list[str] = []

    def __call__(self, host: str) -> set[str]:
        self.lookups.append(host)
        number = self.lookups.count(host)
        return {"10.0.0.1"} if number >= self.known_from.get(host, 10**9) else set()


def wait(hosts, within_s, known_from):
    clock, resolver = FakeClock(), Resolver(known_from)
    wait_for_hostnames(hosts, within_s, resolve=resolver, clock=clock, sleep=clock.sleep)
    return clock.now, resolver.lookups


def test_a_name_is_looked_up_until_it_is_known():
    assert wait(["a"], 60, {"a": 3}) == (2 * HOSTNAME_POLL_INTERVAL_S, ["a"] * 3)


def test_waiting_for_a_name_that_stays_unknown_ends():
    now, lookups = wait(["never"], 5, {})
    assert 5 <= now <= 5 + HOSTNAME_POLL_INTERVAL_S
    assert len(lookups) == now / HOSTNAME_POLL_INTERVAL_S + 1


def test_other_names_are_looked_up_once_where_the_time_is_spent():
    assert wait(["never", "b"], 5, {"b": 2})[1][-2:] == ["never", "b"]


def test_without_time_each_name_is_looked_up_once():
    assert wait(["a", "b"], 0, {}) == (0, ["a", "b"])


def test_an_interface_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(InterfaceError, match=r"there are .*lo"):
        select_interface("127.0.0.1", 1, "ib7")
    assert select_interface("127.0.0.1", 1).address == "127.0.0.1"


def test_node_0_refuses_an_interface_that_the_others_do_not_connect_to():
    interface = Interface("ib0", "10.1.0.1")
    check_rendezvous_interface(interface, "10.1.0.1")
    check_rendezvous_interface(interface, "127.0.1.1")
    with pytest.raises(InterfaceError, match=r"at 10\.0\.0\.1, but interface ib0 has 10\.1\.0\.1: "):
        check_rendezvous_interface(interface, "10.0.0.1")


@pytest.mark.parametrize("name", ["node\udcff", "n" * 64, "node..example"])
def test_a_name_that_no_host_can_have_has_no_address(name, monkeypatch):
    """A kernel takes the first two for its own."""
    assert ipv4_addresses(name) == set()
    assert first_address(name) is None
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert address_of_own_name() is None
