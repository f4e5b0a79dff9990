"""Exchanges inside a node, across nodes and both: selected by measurements, back-tested, and predicted."""

from __future__ import annotations

import pytest

from reports.analysis.communication import time_s
from reports.analysis.communication_paths import LinkSpec, communication_paths
from reports.analysis.findings import analyse_cells
from reports.analysis.placement import Placement
from reports.analysis.predictions import PredictOptions
from tests.support.node_sweeps import ACROSS, INSIDE, exchange_s, placed
from tests.support.pages import page_of

FASTER = LinkSpec(label="10Gbit,20us", bytes_s=1.25e9, latency_s=2e-5)


def way(cells):
    (found,) = communication_paths(cells).values()
    return found


def test_the_formulas():
    flat, hierarchical = exchange_s("flat ring"), exchange_s("hierarchical")
    size = 4_000_000
    hop_s = max(INSIDE[0] + size / 8 * INSIDE[1], ACROSS[0] + size / 8 * ACROSS[1])
    assert flat(8, 4, size) == pytest.approx(2 * 7 * hop_s)
    # Reduce-scatter and allgather inside, and two rings of half the size that share each node's link.
    within = 2 * 1 * (INSIDE[0] + size / 2 * INSIDE[1])
    between = 2 * 3 * (ACROSS[0] + 2 * (size / 2) / 4 * ACROSS[1])
    assert hierarchical(8, 4, size) == pytest.approx(within + between)
    for one in (flat, hierarchical):
        assert one(4, 1, size) == pytest.approx(time_s("ring", 4, size, *INSIDE))
        assert one(4, 4, size) == pytest.approx(time_s("ring", 4, size, *ACROSS))


@pytest.mark.parametrize("algorithm", ["flat ring", "hierarchical"])
def test_alpha_and_beta_inside_and_across_select_the_algorithm(algorithm):
    found = way(placed(algorithm))
    assert set(found.places) == {"inside", "across", "both"}
    for place, (alpha, beta) in (("inside", INSIDE), ("across", ACROSS)):
        assert found.model(place).latency_s.value == pytest.approx(alpha, rel=1e-3)
        assert found.model(place).byte_s.value == pytest.approx(beta, rel=1e-3)
    assert (found.layered.algorithm, found.layered.source) == (algorithm, "tested")
    assert found.layered.misfits[algorithm].typical < 1e-3
    other = next(one for one in found.layered.misfits if one != algorithm)
    assert found.layered.misfits[other].typical > 0.05


@pytest.mark.parametrize("algorithm", ["flat ring", "hierarchical"])
def test_without_one_rank_a_node_the_link_between_nodes_is_fitted(algorithm):
    found = way(placed(algorithm, widths=(4,)))
    assert "across" not in found.places
    assert (found.layered.algorithm, found.layered.source) == (algorithm, "fitted")
    assert found.layered.across.byte_s.value == pytest.approx(ACROSS[1], rel=0.05)


def test_missing_measurements_have_a_reason():
    only_inside = way(placed(nodes=(1,), widths=(2, 4)))
    assert only_inside.unavailable_reason(Placement(4, None)) is None
    assert "no allreduce was measured across nodes" in only_inside.unavailable_reason(Placement(8, 2))
    only_across = way(placed(widths=(1,)))
    assert only_across.unavailable_reason(Placement(64, 1)) is None
    assert "no allreduce was measured inside a node" in only_across.unavailable_reason(Placement(64, 8))
    (forecast,) = analyse_cells(placed(widths=(1,)), PredictOptions((64,), ranks_per_node=8)).curve_predictions
    assert forecast.predictions == ()
    assert "inside a node" in forecast.unknown[64]
    row = next(
        row
        for row in page_of(placed(widths=(1,)), PredictOptions((64,), ranks_per_node=8))
        .table("Predicted throughput")
        .rows
        if row[2] == "64 on 8 nodes"
    )
    assert "add 1 to --nodes" in row[-1]


def test_thousands_of_ranks_are_predicted_from_both_kinds_of_links():
    spread, packed = analyse_cells(placed(), PredictOptions((8, 64, 512, 4096))).curve_predictions
    assert [one.prediction.ranks for one in packed.predictions] == [8, 64, 512, 4096]
    assert (packed.ranks_per_node, packed.inputs.layered, packed.inputs.source) == (2, "flat ring", "tested")
    assert packed.inputs.inside.latency_s.value == pytest.approx(INSIDE[0], rel=1e-3)
    # What the last rank count is predicted to give follows the model that made the cells.
    step = next(one for one in packed.backtests if one.kind == "step")
    assert (step.smaller, step.prediction.ranks, step.measured.n) == ((1, 2, 4), 8, 3)
    assert step.error == pytest.approx(0, abs=2e-3)
    assert spread.ranks_per_node == 1


def test_a_hypothetical_link_joins_the_nodes_and_exchanges_inside_stay_measured():
    options = PredictOptions((64,), FASTER, ranks_per_node=8)
    (forecast, *_) = analyse_cells(placed(widths=(2,)), options).curve_predictions
    faster = {one.prediction.ranks: one.prediction.throughput for one in forecast.at_scale}
    # Eight ranks are on one node: the link is not used.
    (alone, *_) = analyse_cells(
        placed(widths=(2,)), PredictOptions((), LinkSpec(label="slow", bytes_s=1e6, latency_s=1), 8)
    ).curve_predictions
    slow = {one.prediction.ranks: one.prediction.throughput for one in alone.at_scale}
    assert faster[8] == pytest.approx(slow[8])
    assert faster[64] > 2 * slow[64]
    (blind, *_) = analyse_cells(placed(widths=(1,)), options).curve_predictions
    assert "no allreduce was measured inside a node" in blind.at_scale_reason


def test_the_allreduces_at_the_most_nodes_are_back_tested_from_fewer():
    tests = {one.place: one for one in way(placed()).backtests()}
    assert (tests["across"].smaller, tests["across"].ranks, tests["across"].nodes) == ((2,), 4, 4)
    assert (tests["both"].ranks, tests["both"].nodes) == (8, 4)
    assert all(one.misfit.typical < 0.01 for one in tests.values())


def test_the_page_shows_both_kinds_of_links():
    page = page_of(placed())
    places = {row[1] for row in page.table("Allreduce").rows}
    assert places == {"inside a node", "across nodes", "several ranks on each of several nodes"}
    rows = page.table("Several ranks on each").rows
    assert {(row[2], row[-1]) for row in rows} == {("flat ring", "yes"), ("hierarchical", "–")}
    names = [series.name for section in page.sections for figure in section.figures for series in figure.series]
    assert "ddp/gloo on slurm, 8 ranks on 4 nodes: α–β hierarchical" in names
