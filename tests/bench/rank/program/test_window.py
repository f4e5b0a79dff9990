"""Where the window of a program is: decided from the ends of its steps."""

from __future__ import annotations

import itertools

import pytest

from bench.rank.program.marks import CAPACITY, Marks
from bench.rank.program.window import (
    GIVEN_WARMUP_STEPS,
    MAX_STEPS,
    MIN_STEPS,
    Cut,
    WindowRule,
    given_cut,
    needed_steps,
    whole_cut,
)
from tests.support.builders import make_case


def program_case(**changes):
    return make_case(workload="script", backend="torchrun", transport="own", **changes)


def mark(marks, step_s, steps=1, printed=0):
    for _ in range(steps):
        marks.count += 1
        before = marks.wall_ns[(marks.count - 1) % CAPACITY]
        marks.wall_ns[marks.count % CAPACITY] = before + round(step_s * 1e9)


def decide(rule, durations, printed=lambda count: 0):
    marks = Marks()
    for step_s in durations:
        mark(marks, step_s)
        if marks.count >= rule.look_at:
            cut = rule.look(marks, printed(marks.count))
            if cut is not None:
                return cut
    return None


def test_a_warm_up_ends_when_steps_have_settled():
    durations = itertools.chain([3.0, 0.5, 0.3, 0.2], itertools.repeat(0.02))
    rule = WindowRule(program_case(window_s=1.0))
    cut = decide(rule, durations)
    assert rule.settled is True
    assert 8 <= cut.first <= 20
    assert cut.last - cut.first == 50


def test_a_warm_up_that_never_settles_has_an_end():
    rule = WindowRule(program_case(window_s=1.0))
    cut = decide(rule, (0.3 if step % 2 else 0.1 for step in itertools.count()))
    assert rule.settled is False
    assert cut.first * 0.2 < 4
    assert cut.last - cut.first >= MIN_STEPS


@pytest.mark.parametrize("warmup", [0, 1, 2, 7])
def test_a_given_warm_up_is_that_many_steps(warmup):
    rule = WindowRule(program_case(window_s=0.5, warmup=warmup))
    cut = decide(rule, itertools.repeat(0.01))
    # Nothing is known of when the first step began: it is one of the warm-up always.
    assert cut == Cut(max(1, warmup), max(1, warmup) + 50)
    assert rule.settled is None


def test_a_window_is_extended_until_it_is_precise():
    steady = decide(WindowRule(program_case(window_s=0.4, precision=0.02)), itertools.repeat(0.01))
    wild = decide(
        WindowRule(program_case(window_s=0.4, precision=0.02)),
        (0.01 if step < 10 or step // 8 % 2 else 0.05 for step in itertools.count()),
    )
    assert steady.last - steady.first == 40
    assert wild.last - wild.first == 3 * 40


def test_a_window_waits_for_printed_values():
    rule = WindowRule(program_case(window_s=0.4, warmup=10), needs_printed=True)
    cut = decide(rule, itertools.repeat(0.01), printed=lambda count: (count - 10) // 60)
    assert 120 <= cut.last - cut.first <= 130
    silent = decide(WindowRule(program_case(window_s=0.4, warmup=10), needs_printed=True), itertools.repeat(0.01))
    assert silent.last - silent.first == 400


def test_steps_that_are_given_need_no_decision():
    assert given_cut(program_case()) is None
    assert given_cut(program_case(steps=5, warmup=3)) == Cut(3, 8)
    assert given_cut(program_case(steps=5)) == Cut(GIVEN_WARMUP_STEPS, GIVEN_WARMUP_STEPS + 5)


def test_the_window_of_a_whole_program_is_what_is_given():
    case = program_case(steps=20)
    assert whole_cut(case, 100) == Cut(10, 30)
    assert whole_cut(case, 29) is None


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, None), (2, Cut(1, 2)), (8, Cut(4, 8)), (100, Cut(10, 100)), (50_000, Cut(50_000 - MAX_STEPS, 50_000))],
)
def test_the_window_of_a_whole_program(steps, expected):
    assert whole_cut(program_case(), steps) == expected


def test_needed_steps_are_those_that_a_decision_takes():
    case, marks = program_case(window_s=0.5), Marks()
    mark(marks, 0.01, 30)
    cut = decide(WindowRule(case), itertools.repeat(0.01))
    assert needed_steps(case, marks) == pytest.approx(cut.last, abs=6)


def test_marks_beyond_the_memory_are_forgotten():
    marks = Marks()
    mark(marks, 0.001, CAPACITY + 10)
    assert not marks.holds(10)
    assert marks.holds(11)
    assert marks.durations_s(marks.count - 3, marks.count) == pytest.approx([0.001] * 3)
    assert marks.durations_s(CAPACITY - 2, CAPACITY + 2) == pytest.approx([0.001] * 4)
