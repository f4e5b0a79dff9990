"""Links of a given rate in cells and titles: flagged below their rate, and with titles of their own."""

from __future__ import annotations

from bench.core.records import Link
from bench.host.links import rate_bytes_s
from reports.analysis import case_titles
from reports.analysis.cells import make_cells
from reports.analysis.findings import group_cells
from tests.support.builders import make_case, make_trial


def linked(net, achieved_bytes_s):
    case = make_case(net=net)
    link = Link(net=net, wanted_bytes_s=rate_bytes_s(net), achieved_bytes_s=achieved_bytes_s, round_trip_s=2e-5)
    return make_cells([case], {}, [make_trial(case, link=link)], {})[0]


def test_links_that_carry_less_than_their_rate_are_flagged():
    assert "slow_links" not in linked("1gbit", 119e6).flags
    assert "slow_links" in linked("10gbit", 500e6).flags
    assert "slow_links" not in linked("unshaped", 1.0).flags


def test_networks_have_their_own_groups_and_titles():
    cells = [linked("1gbit", 119e6), linked("100mbit", 11.9e6), linked("unshaped", 1e9)]
    assert len(group_cells(cells)) == 3
    assert [case_titles.case_title(cell.case) for cell in cells] == [
        f"synthetic, {name} links · ddp/gloo · 2 ranks · strong" for name in ("1 Gbit/s", "100 Mbit/s", "unshaped")
    ]
    output = "1 Gbit/s links: 119 MB/s of payload each way at once (95 % of the rate), round trip 20.0 µs"
    assert case_titles.link_summary(cells[0].link) == output
