"""What the page shows of GPUs: use, power and clock over the window, from telemetry made up after that of an H200."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from bench.core.telemetry import HOST, Device
from reports.analysis.cells import make_cells
from reports.page.figure_axes import x_axis, y_axis
from reports.page.html import render
from reports.page.plotly_charts import plotly_figure
from reports.page.plotly_library import whole_library
from reports.page.styles import series_styles
from reports.page.svg import figure_svg
from reports.page.svg_series import downsample
from tests.support.gpu_cells import BACKENDS, gpu_case, gpu_cells, gpu_trial
from tests.support.h200_telemetry import GPU, telemetry
from tests.support.pages import figure as make_figure
from tests.support.pages import figures_of, page_of, series

UNITS = ["busy", "SM activity", "tensor activity", "memory activity"]


@pytest.fixture(scope="module")
def page():
    return page_of(gpu_cells())


def gpu_sections(page):
    return [section for section in page.sections if section.title.endswith(": GPUs over time")]


def use_of_gpus(section):
    return [figure for figure in section.figures if figure.title.startswith("Use of the GPU")]


def page_of_trial(trial):
    return page_of(make_cells([trial.case], {}, [trial], {}))


def with_series(trial, change):
    """The trial with other series of its node: ``change`` gives each, or ``None`` to leave it out."""
    (node,) = trial.telemetry
    kept = tuple(new for old in node.series if (new := change(old)) is not None)
    return trial.model_copy(update={"telemetry": (node.model_copy(update={"series": kept}),)})


def test_each_backend_has_a_figure_of_what_its_gpu_did_and_all_share_power_and_clock(page):
    section, full_load = gpu_sections(page)
    assert not section.folded
    titles = [figure.title for figure in section.figures]
    uses = [f"Use of the GPU: {name}" for name in ("single", "ddp/nccl", "horovod/nccl", "dask/tasks")]
    assert titles == [*uses, "GPU power", "SM clock", "GPU memory"]
    for figure in use_of_gpus(section):
        assert [series.name for series in figure.series] == UNITS
        assert figure.percent
        assert figure.window == (0.0, pytest.approx(4.0))
        assert y_axis(figure).high == y_axis(use_of_gpus(full_load)[0]).high, "the same axis, to compare by eye"
        assert len(figure.table.rows) == 4
    assert [len(figure.series) for figure in section.figures[-3:]] == [len(BACKENDS)] * 3


def test_the_load_is_seen_in_the_means(page):
    section, full_load = gpu_sections(page)
    single, *_, dask = use_of_gpus(section)
    for figure, means in (
        (single, (18, 4, 0, 1)),
        (dask, (10, 2, 0, 0)),
        (use_of_gpus(full_load)[0], (100, 98, 83, 33)),
    ):
        shown = re.findall(rf"(?:{'|'.join(UNITS)}) <?(\d+) %", figure.caption)
        assert list(map(int, shown)) == pytest.approx(means, abs=2)
    power, clock, memory = full_load.figures[-3:]
    assert "At the power limit — single: 82 %" in power.caption
    assert "1.5" in clock.caption
    assert not any("At the power limit" in figure.caption for figure in (memory, *section.figures))


def test_lines_of_units_look_unlike_each_other_and_unlike_those_of_backends(page):
    section, _ = gpu_sections(page)
    units, backends = (series_styles(figure) for figure in (section.figures[0], section.figures[-1]))
    assert len({style.dash for style in units}) == len({style.colour for style in units}) == 4
    assert not {style.colour for style in units} & {style.colour for style in backends}


def test_what_is_unknown_for_a_while_is_a_gap_with_its_reason(page):
    section, _ = gpu_sections(page)
    dask = use_of_gpus(section)[-1]
    # The last trial's window ends at 12 s; its first one's counters were not read from 6.1 s to 7.1 s.
    assert "gap" not in dask.caption
    first = use_of_gpus(gpu_sections(page_of_trial(gpu_trial(gpu_case("dask", "tasks"), "dask", 88.0)))[0])[0]
    assert "SM activity, tensor activity, memory activity: unknown for 1.2" in first.caption
    assert "(no answer in time)" in first.caption
    busy, activity, *_ = first.series
    assert not any(map(math.isnan, busy.y))
    (gap,) = [at for at, y in enumerate(activity.y) if math.isnan(y)]
    assert activity.x[gap - 1] < 1.1 < activity.x[gap] < 2.0 < activity.x[gap + 1]
    assert plotly_figure(first)["data"][1]["y"][gap] is None
    paths = ElementTree.fromstring(figure_svg(first)).iter("path")
    assert [path.get("d").count("M") for path in paths if path.get("stroke-width")] == [1, 2, 2, 2]


def test_a_gap_of_a_long_line_is_drawn_too():
    y = [0.5] * 2000
    y[700], y[1200] = math.nan, 0.9
    line = series("a", range(2000), y, mark="line")
    assert {700, 1200} <= set(downsample(line, x_axis(make_figure(curves=[line])), 50))


def test_a_unit_that_was_not_sampled_is_named_with_its_reason():
    def without_tensor_activity(series):
        if series.name != "tensor_activity":
            return series
        return series.model_copy(
            update={"values": (None,) * len(series.values), "reason": "not supported by this device"}
        )

    trial = gpu_trial(gpu_case("single", "none"), "launch_bound", 1137.0)
    page = page_of_trial(with_series(trial, without_tensor_activity))
    (figure,) = use_of_gpus(gpu_sections(page)[0])
    assert [series.name for series in figure.series] == ["busy", "SM activity", "memory activity"]
    assert "Unknown — tensor activity: not supported by this device." in figure.caption


def test_without_samples_of_gpus_there_is_no_such_section_and_the_table_says_why():
    def of_the_host(series):
        return series if series.device == HOST else None

    trial = gpu_trial(gpu_case("single", "none"), "launch_bound", 1137.0)
    assert gpu_sections(page_of_trial(with_series(trial, of_the_host))) == []
    assert "not sampled" in page_of_trial(with_series(trial, of_the_host)).table("Usage of GPUs").note
    unsampled = trial.model_copy(update={"telemetry": ()})
    assert gpu_sections(page_of_trial(unsampled)) == []


@pytest.mark.parametrize(
    ("device", "asked", "folded"),
    [("cpu", "always", True), ("cpu", "replay:r.jsonl", False), ("cuda", "always", False)],
)
def test_gpus_that_nobody_computed_on_are_folded(device, asked, folded):
    case = gpu_case("single", "none", device=device, telemetry=asked)
    (section,) = gpu_sections(page_of_trial(gpu_trial(case, "launch_bound", 1137.0)))
    assert section.folded == folded


def test_of_several_gpus_the_one_that_was_used_least_is_drawn():
    node = telemetry("power_capped", 4.0)
    idle = telemetry("launch_bound", 4.0)
    second = "GPU-second"
    renamed = tuple(series.model_copy(update={"device": second}) for series in idle.series if series.device == GPU)
    both = node.model_copy(
        update={"devices": (*node.devices, Device(id=second, name="H200")), "series": (*node.series, *renamed)}
    )
    trial = gpu_trial(gpu_case("single", "none"), "power_capped", 61.0)
    # No rank names its GPU: all that were sampled count.
    ranks = tuple(rank.model_copy(update={"gpu": None}) for rank in trial.ranks)
    page = page_of_trial(trial.model_copy(update={"telemetry": (both,), "ranks": ranks}))
    (figure,) = use_of_gpus(gpu_sections(page)[0])
    assert "Shown is gpu-node GPU 1, which was used least of 2." in figure.caption
    assert max(figure.series[1].y) < 0.1
    assert len(figure.table.rows) == 8


def test_rank_counts_are_named_where_there_are_several():
    page = page_of(gpu_cells((1, 2)))
    section = gpu_sections(page)[0]
    assert use_of_gpus(section)[0].title == "Use of the GPU: single, 2 ranks"


def test_usage_of_hosts_and_of_gpus_are_two_tables(page):
    hosts, gpus = (
        [table for section in page.sections for table in section.tables if table.caption.startswith(f"Usage of {what}")]
        for what in ("ranks and hosts", "GPUs")
    )
    assert all("rank CPU" in table.header for table in hosts)
    assert not any("GPU" in name for table in hosts for name in table.header)
    capped = [row[table.header.index("GPU power capped")] for table in gpus for row in table.rows]
    assert capped == ["0 %"] * 4 + ["82 %"]
    gpus = gpus[-1]
    power = gpus.header.index("GPU power")
    assert gpus.rows[-1][power].endswith(" W")
    assert "GPU NVLink: not supported by this device" in gpus.note


def host_and_gpu(page):
    return next((figure for figure in figures_of(page) if figure.key == "g0-host-device"), None)


def test_the_host_s_time_of_a_step_stands_beside_the_gpu_s(page):
    figure = host_and_gpu(page)
    assert figure.bars
    assert figure.categories == ("single", "ddp/nccl", "horovod/nccl", "dask/tasks")
    step, host, gpu = figure.series
    assert step.y[0] == pytest.approx(1 / 1137, rel=0.05)
    assert host.y[0] == pytest.approx(0.99 * step.y[0], rel=0.02)
    assert gpu.y[0] == pytest.approx(1 / 6651, rel=0.05)
    assert gpu.x == (0, 1, 2), "dask's is unknown, and no bar of height 0"
    assert step.low[0] < step.y[0] < step.high[0]
    assert figure.caption.startswith("horovod/nccl: the GPU, which waits most, works for 0.15")
    assert "The GPU's time is unknown — dask/tasks: its exchange waits for the host in every step." in figure.caption
    assert [row[4] for row in figure.table.rows][:3] == ["17 %", "15 %", "14 %"]
    assert figure.table.rows[3][4].startswith("unknown: its exchange")


def test_where_only_one_of_both_is_known_it_is_drawn_and_none_on_cpus():
    trial = gpu_trial(gpu_case("single", "none"), "launch_bound", 1137.0)

    def page_with(**changes):
        ranks = tuple(rank.model_copy(update=changes) for rank in trial.ranks)
        return page_of_trial(trial.model_copy(update={"ranks": ranks}))

    host_alone = host_and_gpu(page_with(queued_steps=()))
    assert [series.name for series in host_alone.series] == ["step", "host, until it is launched"]
    gpu_alone = host_and_gpu(page_with(host_step_s=None))
    assert [series.name for series in gpu_alone.series] == ["step", "GPU, its work"]
    assert host_and_gpu(page_with(host_step_s=None, queued_steps=())) is None


def test_tables_of_two_workloads_have_different_names_for_those_who_hear_them(page):
    labels = re.findall(r'role="region" aria-label="([^"]*)"', render(page, whole_library()))
    assert "Numbers of synthetic (model=mlp): Throughput" in labels
    assert len(labels) == len(set(labels))


def test_what_limits_a_step_has_no_blank_columns_and_no_word_of_scaling(page):
    table = page.table("What limits a step")
    assert [row[0] for row in table.rows] == ["single", "ddp/nccl", "horovod/nccl"]
    assert table.header == (
        "curve",
        "at",
        "limited by",
        "launch-bound",
        "throughput if it were not, at most",
    )
