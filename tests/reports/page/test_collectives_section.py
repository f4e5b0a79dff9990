"""Collective operations beside each other: their definitions reach the page, the terminal and the models."""

from __future__ import annotations

import pytest

from bench.core.step_measures import MessageTiming
from reports.analysis.cells import make_cells
from reports.analysis.communication_paths import communication_paths
from reports.analysis.findings import analyse_cells, group_cells
from reports.page.collectives_section import sections, summary_table
from reports.page.message_figures import message_figures
from reports.page.palette import backend_style
from tests.support.builders import make_case, make_record, make_trial

SIZES = {1024: 1e-4, 2**20: 1e-3, 2**24: 1e-2}


def collective_cells(operations=("all_reduce", "all_gather"), ranks=4, **options):
    return collective_sweep(operations, ranks, **options)[0]


def collective_sweep(operations, ranks=4, **options):
    """Cells and trials."""
    cases, trials = [], []
    for operation in operations:
        own = {"operation": operation} if operation != "all_reduce" else {}
        case = make_case(workload="collectives", workload_options=own | options, ranks=ranks, scaling="weak", batch=1)
        records = tuple(
            make_record(
                rank,
                ranks,
                kind="collective",
                unit="bytes",
                amount_per_step=2**24,
                messages=tuple(
                    MessageTiming(
                        message_bytes=size,
                        times_s=(time_s,) * 3,
                        operation=operation,
                        in_place=bool(options.get("in_place")),
                    )
                    for size, time_s in SIZES.items()
                ),
            )
            for rank in range(ranks)
        )
        cases.append(case)
        trials += [make_trial(case, number, ranks=records) for number in range(2)]
    return make_cells(cases, {}, trials, {}), trials


@pytest.mark.parametrize(("operation", "factor"), [("all_reduce", 1.5), ("all_gather", 0.75), ("broadcast", 1.0)])
def test_bandwidths_are_those_of_the_operation(operation, factor):
    (cell,) = collective_cells([operation])
    largest = cell.messages[-1]
    assert largest.operation == operation
    assert largest.algorithm_bandwidth.value == pytest.approx(2**24 / 1e-2)
    assert largest.bus_bandwidth.value == pytest.approx(factor * 2**24 / 1e-2)


def test_only_allreduces_of_float32_tell_the_cost_of_exchanging_gradients():
    paths = communication_paths(collective_cells())
    assert [len(exchange.timings) for path in paths.values() for exchange in path.places.values()] == [len(SIZES)]
    assert communication_paths(collective_cells(["all_gather", "send_recv"])) == {}
    assert communication_paths(collective_cells(["all_reduce"], datatype="float16")) == {}


def test_each_operation_has_a_row_and_all_are_in_one_figure():
    cells = collective_cells()
    (section,) = sections(cells)
    (table,) = section.tables
    assert [row[0] for row in table.rows] == ["all_reduce"] * 3 + ["all_gather"] * 3
    assert [row[4] for row in table.rows[:3]] == ["1 KiB", "1 MiB", "16 MiB"]
    (figure,) = section.figures
    assert [series.name for series in figure.series] == ["all_reduce · ddp/gloo", "all_gather · ddp/gloo"]
    assert "all_reduce" in figure.caption
    rows = summary_table(cells).rows
    assert [(row[0], row[3], row[5]) for row in rows] == [
        ("all_reduce", "1 KiB", "16 MiB"),
        ("all_gather", "1 KiB", "16 MiB"),
    ]


def test_a_sweep_without_them_has_no_section():
    assert list(sections([])) == []
    assert summary_table([]).rows == ()


def test_a_figure_of_one_operation_names_it_and_its_factor():
    first, second = group_cells(collective_cells())
    assert first.title == "collectives: all_reduce of 16 MiB"
    assert second.title == "collectives: all_gather of 16 MiB"
    styles = {"ddp/gloo": backend_style(0)}
    bandwidth, time = message_figures("g", second.cells, styles, analyse_cells(collective_cells()).exchanges)
    assert "× (N−1)/N" in bandwidth.caption
    assert "all_gather" in time.y_title
    assert all(series.mark != "fitted" for series in time.series)
