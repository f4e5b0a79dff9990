"""The energy of a window from the changes of a counter, its error by the window's ends, and why it is unknown."""

from __future__ import annotations

from bisect import bisect_right
from random import Random
from statistics import fmean

import pytest

from bench.core.telemetry import Series
from bench.telemetry.edges import WindowEdges
from bench.telemetry.probes.nvml.change_watch import ChangeWatch
from reports.analysis.energy import find_changes, window_power
from tests.support.energy_counter import GPU, UPDATE_S, Load, counted_series, telemetry_of

STEADY = Load(idle_w=300.0, busy_w=300.0)


def read(times, values, began_s, ended_s, reason=None, name="energy_j", **changes):
    series = Series(device=GPU, name=name, times_s=tuple(times), values=tuple(values), reason=reason)
    return window_power(telemetry_of(series, began_s, ended_s, **changes), GPU, name)


def steady(began_s, ended_s, every=1, **changes):
    """300 W; ``every``: how many of the counter's changes are between two samples."""
    series = counted_series(STEADY.energy, began_s, ended_s)
    return read(series.times_s[::every], series.values[::every], began_s, ended_s, **changes)


@pytest.mark.parametrize("began_s", [10.0, 10.03, 10.099])
@pytest.mark.parametrize("every", [1, 2])
def test_the_ends_are_interpolated_between_changes(began_s, every):
    power = steady(began_s, began_s + 1.04, every)
    assert power.value == pytest.approx(300)


def test_a_sample_without_a_change_says_nothing_new():
    """Of a counter that is renewed at 0.1, 0.2, 0.3 s … and read every 20 ms."""
    times = [0.02 * number for number in range(100)]
    series = Series(device=GPU, name="energy_j", times_s=times, values=[30.0 * int(at / 0.1 + 1e-9) for at in times])
    node = telemetry_of(series, 0.5, 1.5)
    plain = node.update_timings[0].model_copy(update={"at_changes": False})
    changes = list(find_changes(series, plain))
    assert len(changes) == 20
    assert [change.at_s for change in changes[1:]] == pytest.approx([0.1 * n - 0.01 for n in range(1, 20)])
    assert changes[1].uncertainty_s == pytest.approx(0.01)
    power = window_power(node.model_copy(update={"update_timings": (plain,)}), GPU, "energy_j")
    assert power.value == pytest.approx(300)


def test_a_counter_that_is_read_rarely_was_renewed_within_one_update():
    series = Series(device=GPU, name="energy_j", times_s=(0.0, 1.0), values=(0.0, 300.0))
    timing = telemetry_of(series, 0, 1).update_timings[0].model_copy(update={"at_changes": False})
    changes = list(find_changes(series, timing))
    assert [change.at_s for change in changes] == pytest.approx([-0.05, 0.95])
    assert [change.uncertainty_s for change in changes] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("began_s", [10.01, 10.05, 10.08])
def test_the_error_of_the_ends_holds_the_truth_where_the_device_was_idle_outside(phase, began_s):
    """Idle before and after a window in which the load is busy for half of each second: the worst case."""
    load = Load(period_s=1.0, first_s=began_s - phase)

    def energy(at_s):
        inside_s = min(max(at_s, began_s), began_s + 2.0)
        return load.energy(inside_s) + 100.0 * (at_s - inside_s)

    series = counted_series(energy, began_s - 0.3, began_s + 2.3)
    power = read(series.times_s, series.values, began_s, began_s + 2.0)
    # The counter's own sampling adds up to 2 %.
    assert power.value == pytest.approx(load.mean_w, rel=power.end_error + 0.02)
    assert 0 < power.end_error <= 0.1


@pytest.mark.parametrize("busy_share", [0.1, 0.25, 0.75, 0.9])
@pytest.mark.parametrize("period_s", [0.15, 0.25, 0.5])
def test_long_steps_are_read_as_whole_ones(period_s, busy_share):
    """They begin with the window, whatever the phase of the counter: what lies before its first change is always of the
    same part of a step."""
    load = Load(period_s, first_s=10.0, busy_share=busy_share)
    ended_s = 10.0 + period_s * round(2 / period_s)
    offsets_s = [number * UPDATE_S / 40 for number in range(40)]

    def mean_w(step_s):
        nodes = [
            telemetry_of(counted_series(load.energy, 10.0, ended_s, offset), 10.0, ended_s) for offset in offsets_s
        ]
        powers = [window_power(node, GPU, "energy_j", step_s) for node in nodes]
        assert all(power.end_error <= 0.1 for power in powers)
        return fmean(power.value for power in powers)

    assert mean_w(period_s) == pytest.approx(load.mean_w, rel=0.01)
    # Else the first busy part is missing in every trial, and the error is in their mean.
    if period_s > 0.2 and busy_share <= 0.25:
        assert mean_w(0.0) < 0.99 * load.mean_w


def test_an_end_without_a_change_nearby_is_unknown():
    times = [0.1 * number for number in range(31)]
    values = [30.0 * number for number in range(31)]
    assert read(times, values, 1.0, 3.3).value == pytest.approx(300), "extrapolated by 0.3 s"
    assert read(times, values, 1.0, 3.3).end_error == pytest.approx(0.3 / 2.3)
    late = read(times, values, 1.0, 3.5)
    assert (late.value, late.reason) == (None, "its counter was not read within 0.5 s of the window's end")


def test_a_short_window_says_how_long_it_has_to_be():
    power = steady(10.0, 10.4)
    assert (power.value, power.reason) == (None, "window of 0.4 s: needs 0.8 s (--window or --steps)")
    series = Series(device=GPU, name="energy_j", times_s=(), values=())
    slow = telemetry_of(series, 0, 1).update_timings[0].model_copy(update={"update_s": 0.5})
    assert window_power(telemetry_of(series, 0, 1, update_timings=(slow,)), GPU, "energy_j").reason == (
        "window of 1 s: needs 4 s (--window or --steps)"
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((5.0,) * 31, "its counter does not move here"),
        (tuple(30.0 * (number % 20) for number in range(31)), "its counter went backwards"),
        ((None,) * 31, "GPU is lost"),
    ],
)
def test_an_unknown_energy_has_a_reason(values, reason):
    times = [0.1 * number for number in range(31)]
    power = read(times, values, 1.0, 3.0, reason="GPU is lost" if values[0] is None else None)
    assert (power.value, power.end_error, power.reason) == (None, None, reason)


def test_damaged_times_have_a_reason():
    """All samples at one moment; a window of no length, or whose end is before its beginning."""
    assert read([7.0] * 6, range(6), 5.0, 9.0).reason == "its counter does not move here"
    for times, ends in (([4.9, 4.9, 6, 7, 9.3, 9.3], (5.0, 9.0)), ([4.9, 5.05, 5.05, 8.9, 8.9, 9.1], (5.0, 9.0))):
        assert read(times, range(6), *ends).value > 0
    for ended_s in (5.0, 4.0):
        assert read([4.9, 5.0, 5.0, 5.0, 5.1], range(5), 5.0, ended_s).reason == "its window has no length"


def test_what_was_not_sampled_has_a_reason():
    node = telemetry_of(Series(device=GPU, name="energy_j", times_s=(), values=()), 0, 1)
    assert window_power(node, "GPU-2", "energy_j").reason == "not sampled"
    assert window_power(node.model_copy(update={"problems": ("no NVML",)}), "GPU-2", "energy_j").reason == "no NVML"
    assert window_power(node.model_copy(update={"incomplete": "killed"}), GPU, "energy_j").reason == "killed"


def test_old_recordings_don_t_tell_how_counters_are_renewed():
    """RAPL's every millisecond, so that a window of 0.5 s will do; a GPU's every 0.1 s."""
    times, values = [0.2 * n for n in range(10)], [10.0 * n for n in range(10)]
    assert read(times, values, 0.3, 0.9, name="cpu_energy_j", update_timings=()).value == pytest.approx(50)
    assert (
        read(times, values, 0.3, 0.9, update_timings=()).reason == "window of 0.6 s: needs 0.8 s (--window or --steps)"
    )


def watched(energy, began_s, ended_s, expected_s, draw):
    """What the sampler makes of a counter whose updates are 11 to 124 ms apart, with calls of 3.3 ms."""
    updates_s = [began_s - 2]
    while updates_s[-1] < ended_s + 1:
        updates_s.append(updates_s[-1] + (draw.uniform(0.011, 0.124) if draw.random() < 0.2 else 0.1))
    watch, edges, now_s, found = ChangeWatch(UPDATE_S), WindowEdges(lambda: phase, expected_s), began_s - 1.5, []
    while now_s < ended_s + 0.3:
        phase = "warm-up" if now_s < began_s else "window" if now_s < ended_s else "outside"
        if now_s < watch.due_s(edges.near(now_s)):
            now_s += 0.002
            continue
        value = energy(updates_s[bisect_right(updates_s, now_s + 0.0016) - 1])
        if reading := watch.observe(value, now_s, now_s + 0.0033):
            found.append(reading)
        now_s += 0.0033
    return read([reading.at_s for reading in found], [reading.value for reading in found], began_s, ended_s)


@pytest.mark.parametrize(("window_s", "expected_s"), [(0.8, 0.8), (1.0, 1.0), (3.0, 3.0), (1.1, 1.0), (3.0, 2.0)])
def test_what_the_sampler_finds_is_enough_for_a_window_among_idle_time(window_s, expected_s):
    """A GPU at 600 W in the window and 120 W around it, where its power rises before any change of the counter."""
    draw = Random(2)
    errors = []
    for _ in range(40):
        began_s = draw.uniform(10, 11)
        ended_s = began_s + window_s

        def energy(at_s, began_s=began_s, ended_s=ended_s):
            return 120 * at_s + 480 * (min(max(at_s, began_s), ended_s) - began_s)

        power = watched(energy, began_s, ended_s, expected_s, draw)
        assert power.end_error <= 0.25 / window_s
        errors.append(power.value / 600 - 1)
        assert abs(errors[-1]) <= power.end_error + 0.01
    assert abs(fmean(errors)) < 0.02
