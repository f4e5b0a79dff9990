"""Which places came tonight, which one replaced which, and which are missing; what tells them apart."""

from __future__ import annotations

import random

import pytest

from reports.regression.places import PlacedNight, newest_round, place_labels, place_of

HOUR_S, DAY_S = 3600.0, 24 * 3600.0


def at(text: str):
    """``a``: machine a; ``a.2``: after its upgrade."""
    host, _, version = text.partition(".")
    return place_of({"host": host, "torch": version or "1"})


def nights(*timed):
    """Of (places, hours): each a night of its own name."""
    return [
        PlacedNight(f"{number}", frozenset(map(at, places.split("+"))), hours * HOUR_S)
        for number, (places, hours) in enumerate(timed)
    ]


def daily(count, *places):
    """Nights of these machines, one an hour after the other."""
    return [(place, 24 * day + hour) for day in range(count) for hour, place in enumerate(places)]


def result(*timed):
    found = newest_round(nights(*timed))
    names = {at(text): text for places, _ in timed for text in places.split("+")}
    return (
        {names[place] for place in found.came},
        {names[new]: names[old] for new, old in found.replaced.items()},
        {names[place] for place in found.missing},
    )


@pytest.mark.parametrize(
    ("timed", "came", "replaced", "missing"),
    [
        ([("a", 0)], {"a"}, {}, set()),
        (daily(5, "a"), {"a"}, {}, set()),
        (daily(5, "a+b"), {"a", "b"}, {}, set()),
        ([*daily(5, "a+b"), ("a", 120)], {"a"}, {}, {"b"}),
        ([*daily(5, "a+b"), ("a", 120), ("a", 144)], {"a"}, {}, set()),
        (daily(5, "a", "b"), {"a", "b"}, {}, set()),
        ([*daily(5, "a", "b"), ("a", 120)], {"a"}, {}, {"b"}),
        ([*daily(5, "a", "b"), ("b", 121)], {"b"}, {}, {"a"}),
        ([*daily(5, "a", "b"), ("a", 120), ("a", 144)], {"a"}, {}, set()),
        ([*daily(5, "a", "b"), ("a", 120), ("b.2", 121)], {"a", "b.2"}, {"b.2": "b"}, set()),
        ([*daily(5, "a", "b"), ("b.2", 121)], {"b.2"}, {"b.2": "b"}, {"a"}),
        ([*daily(5, "a"), ("c", 120)], {"c"}, {"c": "a"}, set()),
        ([*daily(5, "a"), ("a.2", 96.5)], {"a.2"}, {"a.2": "a"}, set()),
        ([*daily(5, "a"), ("a.2", 96.5), ("a.2", 120)], {"a.2"}, {}, set()),
        ([*daily(5, "a", "b"), ("a", 120), ("b.2", 121), ("a", 144), ("b.2", 145)], {"a", "b.2"}, {}, set()),
        ([*daily(5, "a+b"), ("a+b.2", 120)], {"a", "b.2"}, {"b.2": "b"}, set()),
        ([*daily(5, "a+b"), ("a+b+c", 120)], {"a", "b", "c"}, {}, set()),
        ([*daily(5, "a", "b"), ("b", 105)], {"a", "b"}, {}, set()),
    ],
)
def test_rounds_of_one_and_of_two_machines(timed, came, replaced, missing):
    assert result(*timed) == (came, replaced, missing)


def test_a_rare_machine_is_missed_when_its_turn_is_over_and_once():
    hourly = [("a", float(hour)) for hour in range(100)]
    timed = sorted([*hourly, *((("b", 2.5 + 24 * day)) for day in range(3))], key=lambda night: night[1])
    missed = [hour for hour in range(60, 99) if "b" in result(*[night for night in timed if night[1] <= hour])[2]]
    assert missed == [74], "its night came at 50.5 h, and not at 74.5 h"


def test_a_frequent_machine_is_not_missed_by_a_rare_one():
    hourly = [("a", hour + 0.25) for hour in range(98)]
    timed = sorted([*hourly, *((("b", 2.0 + 24 * day)) for day in range(5))], key=lambda night: night[1])
    assert result(*timed) == ({"a", "b"}, {}, set())


def test_conditions_of_one_machine_are_missed_whatever_the_other_s_period():
    """Tonight the network was down, and the stand-in data were measured, as five days ago."""
    timed = nights(*((("b" if day in (5, 12) else "a"), 24.0 * day) for day in range(13)))
    assert not newest_round(timed).missing
    assert newest_round(timed, exclusive=True).missing == {at("a"): "11"}


def test_the_order_of_places_within_a_night_does_not_count():
    rounds = set()
    for seed in range(5):
        shuffled = random.Random(seed).sample("abcd", 4)
        found = newest_round(nights(*daily(4, "+".join(shuffled)), ("+".join([*shuffled[:1], "e"]), 96)))
        rounds.add((len(found.came), len(found.replaced), len(found.missing)))
    assert rounds == {(2, 1, 2)}


@pytest.mark.parametrize(
    ("places", "labels"),
    [
        ([{"host": "a", "python": "3.9"}], [""]),
        ([{"host": "a", "python": "3.9"}, {"host": "a", "python": "3.10"}], ["python 3.9", "python 3.10"]),
        ([{"host": "a", "torch": "1"}, {"host": "b", "torch": "2"}], ["host a", "host b"]),
        ([{"host": "a"}, {"host": "a", "cpu": "x"}], ["cpu unknown", "cpu x"]),
        (
            [{"host": h, "torch": t} for h in "ab" for t in "12"],
            ["host a, torch 1", "host a, torch 2", "host b, torch 1", "host b, torch 2"],
        ),
    ],
)
def test_labels_have_the_fields_that_tell_places_apart(places, labels):
    keys = [place_of(fields) for fields in places]
    assert [place_labels(keys)[key] for key in keys] == labels
