"""Recordings of formats 1 and 2, and their cut to a window."""

from __future__ import annotations

import pytest

from bench.core.recording import Recording, cut_to_window, read_recording
from bench.core.telemetry import Header, Sample, Tick
from bench.core.update_timing import UpdateTiming

HEADER = Header(host="h", source="host", interval_s=0.1, devices=())


def ticks(*readings_at):
    return tuple(Tick(at_s=at, readings=readings) for at, *readings in readings_at)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_a_probe_returns_that_is_no_number_is_unknown(value):
    recording = Recording(HEADER, ticks((1.0, Sample("host", "cpu", 0.5)), (2.0, Sample("host", "cpu", value))))
    (series,) = cut_to_window(recording, 0.0, 3.0).series
    assert series.values == (0.5, None)
    assert series.reason == f"it was read as {value:g}"


def test_a_sample_has_the_time_of_its_own_call():
    """A counter that is read before its tick ends is inside a window that ends between the two."""
    recorded = ticks(
        (1.0, Sample("GPU", "energy_j", 10.0, None, 0.9), Sample("GPU", "power_w", 5.0)),
        (2.0, Sample("GPU", "energy_j", 30.0, None, 1.75), Sample("GPU", "power_w", 6.0)),
        (3.0, Sample("GPU", "energy_j", 40.0, None, 2.75), Sample("GPU", "power_w", 7.0)),
    )
    lines = [HEADER.model_dump_json(), *(tick.model_dump_json() for tick in recorded)]
    energy, power = cut_to_window(read_recording(lines), 0.95, 1.8).series
    assert (energy.times_s, energy.values) == ((0.9, 1.75, 2.75), (10.0, 30.0, 40.0))
    assert (power.times_s, power.values) == ((1.0, 2.0), (5.0, 6.0))


def test_each_quantity_keeps_its_own_neighbours_of_the_window():
    """What is read once a second has none in the ticks beside a window."""
    recorded = [(n / 5, Sample("GPU", "power_w", float(n)), *_each_second(n)) for n in range(26)]
    energy, power = sorted(
        cut_to_window(Recording(HEADER, ticks(*recorded)), 2.5, 3.3).series, key=lambda series: series.name
    )
    assert energy.times_s == (2.0, 3.0, 4.0)
    assert power.times_s == pytest.approx((2.4, 2.6, 2.8, 3.0, 3.2, 3.4))


def _each_second(number):
    return [] if number % 5 else [Sample("GPU", "energy_j", 100.0 * number)]


def test_a_recording_of_format_1_is_read():
    header = '{"format":1,"host":"h","source":"live","interval_s":0.2,"devices":[{"id":"GPU","name":"H200"}]}'
    tick = '{"at_s":1.5,"readings":[["GPU","power_w",300.0,null],["GPU","energy_j",null,"no permission"]]}'
    recording = read_recording([header, tick])
    assert recording.ticks[0].readings == (
        Sample("GPU", "power_w", 300.0),
        Sample("GPU", "energy_j", None, "no permission"),
    )
    node = cut_to_window(recording, 1.0, 2.0)
    assert (node.update_timings, [series.times_s for series in node.series]) == ((), [(1.5,), (1.5,)])


def test_a_time_that_no_clock_shows_makes_its_line_worthless():
    tick = Tick(at_s=1.0, readings=(Sample("GPU", "power_w", 300.0, None, 1.0),)).model_dump_json()
    lines = [
        HEADER.model_dump_json(),
        tick,
        tick.replace("null,1.0", "null,1e300"),
        tick.replace("null,1.0", "null,NaN"),
    ]
    assert len(read_recording(lines).ticks) == 1


@pytest.mark.parametrize(
    ("update_s", "averages_over_s", "needed_s"),
    [(0.1, 0.0, 1.0), (0.1, 1.0, 2.0), (0.2, 0.2, 1.0), (0.02, 0.0, 1.0), (0.5, 0.0, 2.0)],
)
def test_a_window_holds_enough_values_that_tell_about_it_alone(update_s, averages_over_s, needed_s):
    timing = UpdateTiming(device="GPU", name="power_w", update_s=update_s, averages_over_s=averages_over_s)
    assert timing.needed_window_s(interval_s=0.2, samples=3) == needed_s
