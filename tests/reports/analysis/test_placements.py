"""Inside a node against across nodes; what nodes say of themselves; sites side by side; what it cost."""

from __future__ import annotations

import pytest

from bench.core.machine import NodeFacts
from bench.core.records import Link
from harness.publish.comparison import join_provenance
from reports.analysis import case_titles
from reports.analysis.cells import make_cells
from reports.analysis.comparison import compare, labelled
from reports.analysis.findings import analyse_cells
from reports.analysis.placement import Placement, version_differences
from reports.analysis.placement_effects import floor_s, placement_effects
from reports.page import nodes_section
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_trial
from tests.support.node_sweeps import placed
from tests.support.pages import page_of

RANKS_S = {(1, 1): 0.1, (2, 1): 0.1, (4, 1): 0.125, (2, 2): 0.125, (4, 2): 0.2, (8, 2): 0.25}
"""Seconds of a step by ranks and ranks a node: inside 80 %, across 62.5 and 50 % with two a node."""


def sweep(leave_out=(), spread=0.001, **changes):
    cases = [
        make_case(ranks=ranks, ranks_per_node=width, scaling="weak", site="slurm", **changes)
        for ranks, width in RANKS_S
        if (ranks, width) not in leave_out
    ]
    trials = [
        make_trial(case, number, RANKS_S[case.ranks, case.ranks_per_node] / case.ranks * (1 + spread * number))
        for case in cases
        for number in range(3)
    ]
    return make_cells(cases, {}, trials, {})


def facts(node, host=None, cores=2, **changes):
    base = {
        "system": "Linux 6",
        "cpu": "cpu",
        "memory_bytes": 2**33,
        "gpus": (),
        "python": "3.11.2",
        "packages": {"torch": "2.8.0"},
    }
    return NodeFacts(**{**base, "node": node, "host": host or f"n{node}", "cores": cores, **changes})


def test_efficiency_is_a_product_of_inside_and_across():
    found = {(one.ranks, one.nodes): one for one in placement_effects(sweep()).splits}
    assert found[2, 2].inside is None
    assert found[2, 2].across.value == pytest.approx(1.0)
    assert found[2, 1].inside.value == pytest.approx(0.8, rel=1e-6)
    assert found[2, 1].across_reason == "all are on one node"
    split = found[8, 4]
    assert (split.inside.value, split.across.value) == (pytest.approx(0.8), pytest.approx(0.5))
    assert split.across.low < 0.5 < split.across.high
    whole = next(cell for cell in sweep() if cell.case.ranks == 8)
    assert whole.efficiency.value == pytest.approx(split.inside.value * split.across.value)
    assert "no_baseline" not in whole.flags, "one rank is on one node, whatever others it had room for"


def test_the_answer_compares_losses_inside_and_across_nodes():
    output = nodes_section.node_answers(placement_effects(sweep()))
    assert any(
        "8 ranks on 4 nodes: inside a node 80 %" in one and one.endswith("between nodes costs more.") for one in output
    )
    noisy = nodes_section.node_answers(placement_effects(sweep(spread=0.4)))
    assert any("statistically tied" in one for one in noisy)


def test_what_was_not_measured_is_named():
    splits = placement_effects(sweep(leave_out={(1, 1)})).splits
    assert next(one for one in splits if one.ranks == 8).inside_reason == "1 rank on one node was not measured"
    splits = placement_effects(sweep(leave_out={(2, 2)})).splits
    assert next(one for one in splits if one.ranks == 8).across_reason == "2 ranks on one node were not measured"


def test_packed_and_spread_are_compared():
    packings = {one.ranks: one for one in placement_effects(sweep()).packings}
    assert (packings[4].packed_nodes, packings[4].spread_nodes) == (2, 4)
    assert packings[4].ratio.value == pytest.approx(0.125 / 0.2)
    assert set(packings) == {2, 4}


def test_titles_include_nodes_and_site():
    case = make_case(ranks=4, ranks_per_node=2, site="slurm")
    assert case_titles.case_title(case) == "synthetic · ddp/gloo on slurm · 4 ranks on 2 nodes · strong"
    assert case_titles.backend_title(case) == "ddp/gloo, 2 a node on slurm"
    assert case_titles.case_title(make_case(ranks=4)) == "synthetic · ddp/gloo · 4 ranks · strong"
    assert Placement(5, 2).nodes == 3


def test_oversubscription_is_detected_on_the_hosts_of_the_ranks():
    case = make_case(ranks=4, ranks_per_node=2, site="slurm")
    enough = make_trial(case, nodes=(facts(0), facts(1)))
    (cell,) = make_cells([case], {}, [enough], {})
    assert "oversubscribed" not in cell.flags
    (cell,) = make_cells([case], {}, [make_trial(case, nodes=(facts(0), facts(1, cores=1)))], {})
    assert cell.flags.count("oversubscribed") == 1
    assert cell.speedup is None
    assert not cell.feeds_a_curve
    (cell,) = make_cells([case], {}, [make_trial(case, nodes=(facts(0, "n"), facts(1, "n")))], {})
    assert "oversubscribed" in cell.flags, "two nodes may turn out to be one host"
    waits = case.model_copy(update={"flags": ("emulated_compute",)})
    (cell,) = make_cells([waits], {}, [make_trial(waits, nodes=(facts(0, cores=1), facts(1)))], {})
    assert "oversubscribed" not in cell.flags


def oversubscribed(*nodes):
    case = make_case(ranks=4, ranks_per_node=2, site="kubernetes")
    (cell,) = make_cells([case], {}, [make_trial(case, nodes=nodes)], {})
    return "oversubscribed" in cell.flags


def test_nodes_are_machines_by_their_boot_ids_and_not_by_their_names():
    assert not oversubscribed(facts(0, "worker", boot_id="a"), facts(1, "worker", boot_id="b"))
    assert oversubscribed(facts(0, "worker", boot_id="a"), facts(1, "worker", boot_id="a"))
    shared = {"boot_id": "a", "core_numbers": (0, 1)}
    assert oversubscribed(facts(0, "job-0", **shared), facts(1, "job-1", **shared)), "two pods on two cores"
    own = {"boot_id": "a", "core_numbers": (2, 3)}
    assert not oversubscribed(facts(0, "job-0", **shared), facts(1, "job-1", **own)), "each has cores of its own"


def test_versions_that_differ_are_a_remark():
    here = {"Python": "3.11.2", "torch": "2.8.0"}
    assert version_differences([facts(0), facts(1)], here) == []
    (line,) = version_differences([facts(0), facts(1, packages={"torch": "2.7.1"})], here)
    assert line == "torch differs between machines: 2.8.0 on n0, the submitting machine; 2.7.1 on n1"
    (line,) = version_differences([facts(0, packages={})], here)
    assert line == "torch differs between machines: none on n0; 2.8.0 on the submitting machine"


def test_costs_have_two_bounds_or_a_reason():
    case = make_case(ranks=2, ranks_per_node=1, site="sagemaker")
    billed = [make_trial(case, number, 0.1, cost=0.5, wall_s=100.0) for number in range(2)]
    (cell,) = make_cells([case], {}, billed, {})
    assert cell.cost.value == 0.5
    least, most = cell.cost_per_unit
    assert least == pytest.approx(0.5 / 100 / 80)
    assert most == pytest.approx(0.5 / 16)
    other = make_case(ranks=4, ranks_per_node=1, site="sagemaker")
    trials = [*billed, make_trial(other, cost_reason="no price was given")]
    page = page_of(make_cells([case, other], {}, trials, {}))
    rows = page.table("Costs").rows
    assert [row[1] for row in rows] == ["0.500 (0.500–0.500)", "unknown: no price was given"]


SITES = ("local", "hosts", "slurm", "kubernetes", "sagemaker", "dask", "local")


def test_seven_sites_share_one_report():
    sides = [
        (chr(ord("A") + number), [c for c in placed(site=site, nodes=(1, 2)) if c.case.workload == "synthetic"])
        for number, site in enumerate(SITES)
    ]
    cells = [cell for label, own in sides for cell in labelled(own, label)]
    assert len({cell.case.key for cell in cells}) == len(cells)
    comparisons = [compare("A", sides[0][1], label, own) for label, own in sides[1:]]
    page = make_page("t", analyse_cells(cells), [], [], comparisons)
    names = {row[1] for row in page.table("All cells").rows}
    assert {"ddp/gloo, 2 a node · A", "ddp/gloo, 2 a node · C on slurm", "ddp/gloo, 1 a node · F on dask"} <= names
    figure = next(figure for section in page.sections for figure in section.figures if figure.title == "Throughput")
    assert len({series.name for series in figure.series}) == len(figure.series) >= 2 * len(SITES)
    # Only the two that ran here have cases in common.
    assert [one.other for one in comparisons if one.changes] == ["G"]


def test_rows_of_one_name_stand_together():
    rows = join_provenance([[("nodes", "n1"), ("nodes", "n2")], [("nodes", "n3")]])
    assert rows == [("nodes", "n1; n2", "n3")]


def over(net, rate, **changes):
    link = Link(net=net, wanted_bytes_s=None, achieved_bytes_s=rate, round_trip_s=1e-5)
    return placed(net=net, link=link, across=(1e-4, 1 / rate), widths=(1,), nodes=(1, 2), site="local", **changes)


def test_networks_are_an_axis():
    cells = [*over("100mbit", 12e6), *over("1gbit", 119e6), *over("unshaped", 2e9)]
    found = analyse_cells(cells)
    assert [(one.net, one.case.ranks) for one in found.networks] == [("100mbit", 2), ("1gbit", 2), ("unshaped", 2)]
    for one in found.networks:
        assert one.floor_s == pytest.approx(3.2e6 / one.link_bytes_s)
        assert one.modelled_step_s == pytest.approx(one.step_s.value, rel=0.01)
        assert one.modelled_efficiency == pytest.approx(one.efficiency.value, rel=0.01)
        assert one.step_s.value > one.floor_s
    page = make_page("t", found, [], [])
    section = next(one for one in page.sections if one.title.startswith("Over networks"))
    efficiency, step = section.figures
    assert efficiency.series[0].x == (12e6, 119e6, 2e9)
    assert [series.mark for series in efficiency.series] == ["points", "fitted"]
    assert len(step.series) == 3
    assert analyse_cells(over("1gbit", 119e6)).networks == (), "one network is no axis"


def test_the_lower_bound_of_the_links():
    assert floor_s(4 * 814_090, Placement(2, 1), 125e6) == pytest.approx(0.026, rel=0.01)
    assert floor_s(4 * 814_090, Placement(2, 1), 12.5e6) == pytest.approx(0.261, rel=0.01)
    assert floor_s(1e6, Placement(8, 2), 1e6) == pytest.approx(1.5), "the ranks of a node share its link"
