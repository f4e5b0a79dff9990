"""What the ranks of a program process together, from what each of them knows."""

from __future__ import annotations

import pytest

from bench.core.program_run import total_amount
from tests.support.builders import make_run


def test_amounts_of_all_ranks_add_up_also_where_one_fetches_for_all():
    assert total_amount([make_run(amount_per_step=32), make_run(amount_per_step=24)], 0.1) == 56
    assert total_amount([make_run(amount_per_step=64), make_run(amount_per_step=0)], 0.1) == 64


def test_an_amount_that_no_rank_knows_is_unknown():
    assert total_amount([make_run(amount_per_step=0), make_run(amount_per_step=0)], 0.1) is None


@pytest.mark.parametrize(
    ("printed", "scope", "expected"),
    [
        # 100 units a second, in steps of a tenth of a second.
        ([(100.0,), ()], "total", 10),
        ([(100.0,), (100.0,)], "total", 10),
        ([(100.0,), (50.0,)], "rank", 15),
        # As much work at 50 as at 150 units a second takes as long as all of it at 75.
        ([(50.0, 150.0)], "total", 7.5),
        ([(100.0,), ()], "rank", None),
        ([(), ()], "total", None),
        ([(0.0, 100.0)], "total", None),
    ],
)
def test_a_printed_rate_is_an_amount_in_a_step(printed, scope, expected):
    unknown = {"counted": "printed", "amount_per_step": None, "printed_scope": scope}
    runs = [make_run(printed=values, **unknown) for values in printed]
    assert total_amount(runs, 0.1) == pytest.approx(expected)
