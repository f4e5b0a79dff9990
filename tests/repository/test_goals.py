"""The table that the benchmarks of ``tests/perf`` end with."""

from __future__ import annotations

import pytest

from tests.perf.goals import Measured, table


def test_a_row_says_how_far_the_median_is_from_the_goal():
    rows = table(
        [
            Measured("a sweep ÷ a loop", (0.3, 0.28, 0.35), at_most=0.25),
            Measured("samples/s", (3.0, 5.0), at_least=4),
            Measured("MB", (2.0,), at_least=4),
        ]
    )
    assert [row.split("  ")[-1].strip() for row in rows[1:]] == ["missed by 20%", "reached", "missed by 50%"]
    assert "0.28–0.35 of 3" in rows[1]


@pytest.mark.parametrize(
    ("values", "limits"), [((), {"at_most": 1}), ((1.0,), {}), ((1.0,), {"at_most": 1, "at_least": 1})]
)
def test_a_row_without_a_goal_or_a_number_is_refused(values, limits):
    with pytest.raises(ValueError, match="width"):
        Measured("width", values, **limits)
