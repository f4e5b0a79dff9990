"""Samples over time, ready to be drawn: rates of counters, the window's place, and what thinning keeps."""

from __future__ import annotations

import random

import pytest

from bench.core.telemetry import HOST, Device, NodeTelemetry, Series
from reports.analysis.cells import make_cells
from reports.analysis.timeline import MAX_POINTS, counter_rates, downsample, find_gaps, timelines_of
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import page_of

GPUS = ("GPU-a", "GPU-b")


def node(*series, began_s=10.0, ended_s=12.0, host="here"):
    devices = tuple(Device(id=name, name=name) for name in (HOST, *GPUS))
    return NodeTelemetry(
        host=host, source="live", interval_s=0.5, began_s=began_s, ended_s=ended_s, devices=devices, series=series
    )


def sampled(name, values, device=HOST, first_s=9.75):
    times = tuple(first_s + 0.5 * number for number in range(len(values)))
    return Series(device=device, name=name, times_s=times, values=tuple(values), reason="no")


BUSY = sampled("job_cpu_s", [0.0, 0.5, 1.5, 2.5, 3.5, 3.5])
"""1, 2, 2, 2 and 0 cores, half a second each, from a quarter of a second before the window to one after it."""


def trial(*nodes, case=None, **changes):
    return make_trial(case or make_case(), telemetry=nodes, **changes)


def test_a_counter_becomes_its_growth_per_second_with_the_window_at_zero():
    (found,) = timelines_of([trial(node(BUSY))])
    assert (found.device, found.name, found.unit, found.window_s) == ("here", "job_cpu", "cores", 2)
    assert found.times_s == pytest.approx((0, 0.5, 1, 1.5, 2))
    assert found.values == pytest.approx((1, 2, 2, 2, 0))
    assert found.samples == 5
    assert (found.mean, found.least, found.most) == pytest.approx((1.4, 0, 2))


def test_samples_around_the_window_are_drawn_but_not_counted():
    power = sampled("power_w", [500.0, 100.0, 200.0, 300.0, 200.0, 900.0], device="GPU-b")
    (found,) = timelines_of([trial(node(power))])
    assert (found.device, found.values[0], found.values[-1]) == ("here GPU 1", 500, 900)
    assert (found.samples, found.mean, found.least, found.most) == (4, 200, 100, 300)


def test_unknown_samples_leave_no_zeros():
    assert counter_rates([(0.0, 1.0), (2.0, 5.0)]) == [(1.0, 2.0)]
    (found,) = timelines_of([trial(node(sampled("utilization", [None, 0.5, None, 0.7, None], device="GPU-a")))])
    assert found.values == (0.5, 0.7)
    assert timelines_of([trial(node(sampled("utilization", [None] * 5, device="GPU-a")))]) == ()


def test_a_span_without_samples_is_a_gap_with_its_reason():
    """Every second sample of a counter that needs 0.2 s may be too early: that is no gap."""
    values = [0.5, None, 0.5, None, 0.5, None, 0.5, None, None, None, None, None, None, 0.7, None, 0.7]
    (found,) = timelines_of([trial(node(sampled("sm_activity", values, device="GPU-a"), ended_s=17.0))])
    assert found.values == (0.5, 0.5, 0.5, 0.5, None, 0.7, 0.7)
    assert found.times_s[3:6] == pytest.approx((2.75, 4.5, 6.25))
    assert (found.unknown_s, found.unknown_reason) == (pytest.approx(3.5), "no")
    assert (found.samples, found.mean) == (4, pytest.approx(0.55))


def test_the_ends_of_a_window_without_samples_are_unknown():
    found = timelines_of([trial(node(sampled("power_w", [None, None, None, None, 7.0], device="GPU-a"), ended_s=20.0))])
    assert found[0].unknown_s == 10, (
        "a single sample, 1.75 s after the beginning, is more than three intervals from both"
    )
    assert find_gaps([2.0, 2.5, 3.0], 0.5, 10.0) == [(0.0, 2.0), (3.0, 10.0)]
    assert find_gaps([-0.3, 0.2, 0.7, 1.2], 0.5, 2.0) == []


def test_only_the_gpus_that_ranks_computed_on():
    power = [sampled("power_w", [100.0] * 5, device=gpu) for gpu in GPUS]
    ranks = (make_record(0, 2, gpu="GPU-b"), make_record(1, 2, gpu="GPU-b"))
    assert [found.device for found in timelines_of([trial(node(*power), ranks=ranks)])] == ["here GPU 1"]


def test_the_last_trial_that_was_sampled_is_shown():
    early, late = (node(sampled("power_w", [value] * 5, device="GPU-a")) for value in (100.0, 200.0))
    assert timelines_of([trial(early), trial(late), trial()])[0].mean == 200


def test_thinning_keeps_the_extremes_and_the_order():
    chance = random.Random(1)
    samples = [(float(number), chance.random()) for number in range(7919)]
    samples[4321] = (4321.0, 99.0)
    samples[7000] = (7000.0, -99.0)
    kept = downsample(samples, MAX_POINTS)
    assert len(kept) <= MAX_POINTS
    assert {(4321.0, 99.0), (7000.0, -99.0)} <= set(kept) <= set(samples)
    assert kept == sorted(kept)
    assert downsample(samples[:MAX_POINTS], MAX_POINTS) == samples[:MAX_POINTS]


def test_the_mean_is_of_all_samples_not_of_those_kept():
    values = [0.0] * 2000
    values[1000] = 2000.0
    (found,) = timelines_of([trial(node(sampled("power_w", values, "GPU-a", 10.0), ended_s=2000.0))])
    assert len(found.values) <= MAX_POINTS
    assert (found.samples, found.mean, found.most) == (2000, 1, 2000)


def page_of_trials(trials):
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    return page_of(make_cells(cases, {}, trials, {}))


def over_time(page):
    return [figure for section in page.sections if section.title.endswith("over time") for figure in section.figures]


def test_the_largest_sampled_rank_count_of_each_backend_is_drawn():
    cases = [make_case(ranks=2), make_case(ranks=4), make_case(backend="horovod", ranks=2)]
    longer = node(BUSY, ended_s=13.0)
    page = page_of_trials([trial(node(BUSY), case=cases[0]), trial(case=cases[1]), trial(longer, case=cases[2])])
    (figure,) = over_time(page)
    assert [series.name for series in figure.series] == ["ddp/gloo, 2 ranks", "horovod/gloo, 2 ranks"]
    assert {series.mark for series in figure.series} == {"line"}
    assert figure.window == (0, 3)
    assert "The longest measured window, 3.00 s, is shaded" in figure.caption
    assert "ddp/gloo, 2 ranks: 1.40 (0–2.00) cores" in figure.caption
    assert [row[2] for row in figure.table.rows] == ["2.00 s", "3.00 s"]
    assert next(section for section in page.sections if figure in section.figures).folded


def test_many_devices_have_few_lines_and_a_full_table():
    nodes = [node(*(sampled("power_w", [100.0] * 5, device=gpu) for gpu in GPUS), host=f"n{n}") for n in range(6)]
    (figure,) = over_time(page_of_trials([trial(*nodes)]))
    assert len(figure.series) == 8
    assert len({series.style for series in figure.series}) == 8
    assert "ddp/gloo: 100 W over 12 devices" in figure.caption
    assert "4 further lines are in the table only" in figure.caption
    assert len(figure.table.rows) == 12


def test_unknown_and_zero_quantities_have_no_figure():
    assert over_time(page_of_trials([trial()])) == []
    idle = node(sampled("network_bytes", [7.0] * 6), sampled("utilization", [None] * 6, device="GPU-a"))
    assert over_time(page_of_trials([trial(idle)])) == []
