from __future__ import annotations

import pytest

from bench.core.telemetry import Header, Recording, Sample, Tick, cut_to_window


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_a_probe_returns_that_is_no_number_is_unknown(value):
    recording = Recording(
        Header(host="h", source="host", interval_s=0.1, devices=()),
        (
            Tick(at_s=1.0, readings=(Sample("host", "cpu", 0.5),)),
            Tick(at_s=2.0, readings=(Sample("host", "cpu", value),)),
        ),
        (),
    )
    (series,) = cut_to_window(recording, 0.0, 3.0).series
    assert series.values == (0.5, None)
    assert series.reason == f"the probe read {value}"
