"""When the beginning or the end of a window is near."""

from __future__ import annotations

import pytest

from bench.telemetry.edges import WindowEdges


def near(expected_s, began_s=10.0, ended_s=16.0):
    """The tenths of seconds at which an edge is near."""
    edges = WindowEdges(lambda: phase, expected_s)
    times = []
    for tenth in range(80, 180):
        at_s = tenth / 10
        phase = "outside" if at_s < began_s - 1 or at_s >= ended_s else "warm-up" if at_s < began_s else "window"
        if edges.near(at_s):
            times.append(at_s)
    return times


def between(*spans):
    return [tenth / 10 for begin, end in spans for tenth in range(round(begin * 10), round(end * 10))]


@pytest.mark.parametrize(
    ("expected_s", "spans"),
    [
        (None, [(9.0, 10.3), (16.0, 16.3)]),
        (6.0, [(9.0, 10.3), (15.8, 16.3)]),
        # It lasts longer: it may end at any time, and after twice the time nobody knows when.
        (5.0, [(9.0, 10.3), (14.8, 16.3)]),
        (2.0, [(9.0, 10.3), (11.8, 14.0), (16.0, 16.3)]),
        (20.0, [(9.0, 10.3), (16.0, 16.3)]),
    ],
)
def test_an_edge_is_near_in_the_warm_up_after_it_and_before_the_window_is_due_to_end(expected_s, spans):
    assert near(expected_s) == pytest.approx(between(*spans))
