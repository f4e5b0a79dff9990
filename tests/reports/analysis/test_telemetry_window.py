"""Readings of a GPU by what they are made of: windows that are too short for them, and values that are counted once."""

from __future__ import annotations

import pytest

from bench.core.recording import Recording, cut_to_window
from bench.core.telemetry import Header, Sample, Tick
from bench.core.update_timing import UpdateTiming
from harness.planning.plan import GPU_WINDOW_S
from reports.analysis.telemetry_window import MIN_SAMPLES, TelemetryWindow
from tests.support.h200_telemetry import GPU as H200
from tests.support.h200_telemetry import telemetry

GPU = "GPU-1"
TABLE = {
    "power_w": (0.1, 0.0),
    "utilization": (0.2, 0.2),
    "sm_activity": (0.1, 0.2),
}
OLD_DRIVER = {"power_w": (0.1, 1.0)}


def window(length_s, value_at, timings=None, interval_s=0.2, began_s=1.0):
    """A window of what was read at every tick."""
    timings = TABLE if timings is None else timings
    header = Header(
        host="h",
        source="live",
        interval_s=interval_s,
        devices=(),
        update_timings=tuple(
            UpdateTiming(device=GPU, name=name, update_s=update_s, averages_over_s=mean_s)
            for name, (update_s, mean_s) in timings.items()
        ),
    )
    moments = [0.05 + interval_s * number for number in range(round(10 / interval_s))]
    ticks = tuple(Tick(at_s=at, readings=tuple(Sample(GPU, name, value_at(at)) for name in TABLE)) for at in moments)
    return TelemetryWindow(cut_to_window(Recording(header, ticks), began_s, began_s + length_s))


@pytest.mark.parametrize(
    ("name", "timings", "length_s", "reason"),
    [
        ("utilization", TABLE, 0.4, "window of 0.4 s: needs 1 s (--window or --steps)"),
        ("utilization", TABLE, 0.95, "window of 0.95 s: needs 1.5 s (--window or --steps)"),
        ("utilization", TABLE, 1.0, None),
        ("power_w", TABLE, 0.4, "window of 0.4 s: needs 1 s (--window or --steps)"),
        ("power_w", TABLE, 0.8, None),
        ("sm_activity", TABLE, 0.5, "window of 0.5 s: needs 1 s (--window or --steps)"),
        ("sm_activity", TABLE, 1.0, None),
        ("power_w", OLD_DRIVER, 1.0, "mean over the last 1 s: needs a window of 2 s (--window or --steps)"),
        ("power_w", OLD_DRIVER, 2.0, None),
        ("power_w", {}, 0.9, None),  # recorded before this was known
    ],
)
def test_a_window_that_is_too_short_for_a_reading_says_what_it_needs(name, timings, length_s, reason):
    mean = window(length_s, lambda at: 5.0, timings).mean(GPU, name)
    assert (mean.value, mean.reason) == (None if reason else 5.0, reason)


@pytest.mark.parametrize("began_s", [1.0, 1.04, 1.06, 1.13, 1.2])
@pytest.mark.parametrize(("name", "timings"), [*((name, TABLE) for name in TABLE), ("power_w", OLD_DRIVER)])
def test_a_window_that_is_long_enough_always_has_the_samples(name, timings, began_s):
    timing = UpdateTiming(device=GPU, name=name, update_s=timings[name][0], averages_over_s=timings[name][1])
    length_s = timing.shortest_window_s(0.2, MIN_SAMPLES) + 1e-9
    assert window(length_s, lambda at: 5.0, timings, began_s=began_s).mean(GPU, name).value == 5.0


def test_a_mean_over_time_before_the_window_is_not_the_window_s():
    """A load of 700 W begins with the window. The mean over the last second reaches it a second later only."""

    def mean_of_the_last_second(at):
        return 100 + 600 * min(1.0, max(0.0, at - 1.0))

    assert window(3.0, mean_of_the_last_second, OLD_DRIVER).mean(GPU, "power_w").value == 700
    assert window(3.0, mean_of_the_last_second, {}).mean(GPU, "power_w").value < 620, "were it not known"


def test_samples_within_one_update_are_one():
    dense = window(1.5, lambda at: 5.0, {"power_w": (0.5, 0.0)}, interval_s=0.02)
    assert dense.mean(GPU, "power_w").value is None
    assert window(2.1, lambda at: 5.0, {"power_w": (0.5, 0.0)}, interval_s=0.02).mean(GPU, "power_w").value == 5.0


def test_what_was_never_read_says_why_and_not_that_the_window_is_short():
    header = Header(
        host="h",
        source="live",
        interval_s=0.2,
        devices=(),
        update_timings=(UpdateTiming(device=GPU, name="sm_activity", update_s=0.1, averages_over_s=0.2),),
    )
    ticks = tuple(
        Tick(at_s=0.2 * n, readings=(Sample(GPU, "sm_activity", None, "not supported by this device"),))
        for n in range(10)
    )
    mean = TelemetryWindow(cut_to_window(Recording(header, ticks), 0.5, 0.9)).mean(GPU, "sm_activity")
    assert mean.reason == "not supported by this device"


def test_samples_are_counted_by_what_was_read_most_often():
    """Each reading has a time of its own: all of them together are no more samples."""
    ticks = tuple(
        Tick(at_s=n, readings=(Sample(GPU, "power_w", 1.0, None, n - 0.01), Sample(GPU, "utilization", 1.0, None, n)))
        for n in range(1, 11)
    )
    header = Header(host="h", source="live", interval_s=1.0, devices=())
    assert TelemetryWindow(cut_to_window(Recording(header, ticks), 0.5, 10.5)).coverage() == (10, pytest.approx(0.9))


def test_a_window_of_no_length_holds_nothing():
    """Of a damaged record; its counters have no rate."""
    ticks = tuple(Tick(at_s=1.0, readings=(Sample(GPU, "pcie_bytes", value),)) for value in (1.0, 2.0, 3.0, 4.0))
    header = Header(host="h", source="live", interval_s=0.2, devices=())
    view = TelemetryWindow(cut_to_window(Recording(header, ticks), 1.0, 1.0))
    assert view.rate(GPU, "pcie_bytes").reason == "its window has no length"


def test_readings_like_an_h200_s_over_the_windows_of_a_suite_of_then_and_of_now():
    """A window of 0.5 s held two or three samples of each, and all were unknown as "too few"."""
    activities = ("utilization", "power_w", "sm_activity", "tensor_activity", "dram_activity")
    short, long = (TelemetryWindow(telemetry("power_capped", window_s)) for window_s in (0.5, GPU_WINDOW_S))
    reasons = {short.mean(H200, name).reason for name in activities}
    assert reasons == {"window of 0.5 s: needs 1 s (--window or --steps)"}
    assert "--window" in short.power(H200, "energy_j").reason
    assert all(long.mean(H200, name).value > 0 for name in activities)
    assert long.power(H200, "energy_j").value == pytest.approx(long.mean(H200, "power_w").value, rel=0.03)
