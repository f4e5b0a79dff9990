"""Which rank keeps the others waiting, from what each has begun: worked out by hand."""

from __future__ import annotations

import pytest

from bench.core.flight_record import FlightEntry, FlightRecord, explain_hang, name_ranks


def entry(sequence, operation="all_reduce", *, done=True, **changes):
    base = {"group": "default_pg", "tensors": "Float [10]"}
    return FlightEntry(**{**base, **changes}, operation=operation, sequence=sequence, done=done)


def explain(*ranks, running=None):
    records = [FlightRecord(rank=number, entries=entries) for number, entries in enumerate(ranks)]
    return explain_hang(records, range(len(ranks)) if running is None else running)


def test_the_rank_that_did_not_come_is_named_with_the_last_thing_it_did():
    waits = (entry(142, "broadcast"), entry(143, done=False), entry(144, done=False))
    assert explain(waits, (entry(141), entry(142, "broadcast")), waits) == (
        "ranks 0, 2 wait in all_reduce (collective 143), which rank 1 has not begun: its last one was "
        "broadcast (collective 142)"
    )
    assert explain(waits, (), ()) == (
        "rank 0 waits in all_reduce (collective 143), which ranks 1, 2 have not begun: their last one was none"
    )
    assert explain(waits, (), (entry(142),)) == (
        "rank 0 waits in all_reduce (collective 143), which ranks 1, 2 have not begun"
    )


def test_a_rank_that_was_done_before_the_others_is_not_waited_for():
    """The root of a broadcast goes on at once, and waits in the next collective."""
    root = (entry(7, "broadcast"), entry(8, done=False))
    assert explain(root, (entry(7, "broadcast", done=False),)) == "rank 1 waits in broadcast (collective 7)"


def test_where_all_have_begun_it_no_rank_is_blamed():
    both = (entry(3, done=False),)
    assert explain(both, both) == "ranks 0, 1 wait in all_reduce (collective 3)"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (entry(3, "broadcast", done=False), "rank 0 all_reduce of Float [10], rank 1 broadcast of Float [10]"),
        (entry(3, tensors="Float [9]", done=False), "rank 0 all_reduce of Float [10], rank 1 all_reduce of Float [9]"),
    ],
)
def test_ranks_in_different_collectives_of_one_number(other, said):
    found = explain((entry(3, done=False),), (other,))
    assert found.endswith(f"; they do not agree on it: {said}")


def test_all_to_all_may_take_tensors_of_different_sizes():
    sides = [(entry(3, "all_to_all", tensors=f"Float [{size}]", done=False),) for size in (9, 10)]
    assert explain(*sides) == "ranks 0, 1 wait in all_to_all (collective 3)"


def test_groups_count_for_themselves():
    """Rank 2 belongs to neither group, as far as what it did tells."""
    first = (entry(9), entry(4, group="1", done=False))
    assert explain(first, (entry(9), entry(3, group="1")), (entry(9),)) == (
        "rank 0 waits in all_reduce (collective 4 of group 1), which rank 1 has not begun: its last one was "
        "all_reduce (collective 3 of group 1)"
    )


def test_transfers_between_two_ranks():
    waits = (entry(2, "recv 0<-1", collective=False, done=False),)
    assert explain(waits, ()) == "rank 0 waits in recv 0<-1 (transfer 2)"


def test_what_is_not_known_is_said():
    waits = (entry(1, done=False),)
    assert explain(waits, running=(0, 1)) == (
        "rank 0 waits in all_reduce (collective 1); of rank 1 the collectives are unknown"
    )
    records = [FlightRecord(rank=0, entries=waits), FlightRecord(rank=1, reason="no recorder")]
    assert explain_hang(records, (0, 1)).endswith("; of rank 1 the collectives are unknown")


def test_no_wait_no_sentence():
    assert explain((entry(1),), (entry(1), entry(2))) is None
    assert explain_hang([FlightRecord(rank=0, reason="no recorder")], (0, 1)) is None


def test_names_are_shown_on_one_line():
    found = explain((entry(1, "all\x1b[2J_reduce\n", group="g\n", done=False),))
    assert found.isprintable()


def test_many_waits_are_counted():
    waits = [entry(1, group=f"group {number}", done=False) for number in range(900)]
    found = explain(waits)
    assert found.endswith("; and 896 more waits")
    assert len(found) < 500


def test_many_ranks_are_counted():
    assert name_ranks(range(1000)) == "1000 ranks (0, 1, 2, 3, 4, 5, 6, 7, …)"
