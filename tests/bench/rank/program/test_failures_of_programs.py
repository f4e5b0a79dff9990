"""What gives no number, each named in one line, in processes of their own."""

from __future__ import annotations

import pytest

from tests.bench.rank.program.test_end_of_program import LOOP
from tests.support.programs import program_case, run_ranks

pytestmark = pytest.mark.slow


def error_of(tmp_path, text, **changes):
    (rank,) = run_ranks(program_case(text, tmp_path, **changes), tmp_path)
    assert rank.status == 1, rank.output
    assert rank.record is None
    assert "\n" not in rank.error
    return rank.error


def test_a_program_without_torch(tmp_path):
    error = error_of(tmp_path, "print('hello')")
    assert error.startswith("train.py ended without importing torch")
    assert "--metric" in error


def test_a_program_that_never_steps(tmp_path):
    error = error_of(tmp_path, "import torch")
    assert error.startswith("train.py ended without an optimizer step")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import sys; print('no data', file=sys.stderr); sys.exit(3)", "train.py exited with status 3: no data"),
        ("raise SystemExit('no data')", "train.py exited with status 1: no data"),
        (LOOP + "\ntrain(2)\nimport sys; sys.exit(4)", "train.py exited with status 4 after 20 steps"),
    ],
)
def test_a_program_that_says_that_it_failed(tmp_path, text, expected):
    assert error_of(tmp_path, text, steps=1000) == expected


def test_a_program_that_ends_before_its_window(tmp_path):
    error = error_of(tmp_path, LOOP + "\ntrain(2)", steps=30)
    assert error == (
        "train.py ended by itself after 20 steps, and its window needs about 40 (10 of them warm-up): give it more "
        "steps, or measure fewer (--steps 10), or let it end by itself (--whole)"
    )


def test_a_program_that_ends_at_once(tmp_path):
    error = error_of(tmp_path, LOOP + "\nimport os\ntrain(2)\nos._exit(0)", steps=30)
    assert error == "train.py called os._exit(0) after 20 steps, before its window was full"


def test_an_exception_of_the_program_is_its_own(tmp_path):
    (rank,) = run_ranks(program_case(LOOP + "\ntrain(2)\nraise ValueError('bad batch')", tmp_path), tmp_path)
    assert rank.error == "ValueError: bad batch"
    assert any("train.py" in line for line in rank.failure.tail)


def test_a_program_of_which_nothing_is_counted_is_not_run_to_its_end(tmp_path):
    text = "from torch.optim import SGD\noptimizer = SGD()\nwhile True:\n    optimizer.step()\n"
    error = error_of(tmp_path, text)
    assert "--samples-per-step N" in error
    assert "--metric" in error


def test_what_is_given_is_what_counts(tmp_path):
    text = "from torch.optim import SGD\noptimizer = SGD()\nwhile True:\n    optimizer.step()\n"
    options = {"samples_per_step": "48/rank", "unit": "images"}
    ranks = run_ranks(program_case(text, tmp_path, ranks=2, steps=5, options=options), tmp_path)
    assert [rank.record.program.amount_per_step for rank in ranks] == [48.0, 48.0]
    assert {rank.record.unit for rank in ranks} == {"images"}


def test_tokens_are_counted_where_batches_hold_integers(tmp_path):
    text = LOOP.replace('(4, 2), "torch.float32"', '(4, 32), "torch.int64"') + "\ntrain()\n"
    (rank,) = run_ranks(program_case(text, tmp_path, options={"unit": "tokens"}), tmp_path)
    assert rank.record.amount_per_step == 4 * 32


def test_batches_without_tokens(tmp_path):
    assert "hold no tensor of integers" in error_of(tmp_path, LOOP + "\ntrain()\n", options={"unit": "tokens"})


def test_a_program_that_catches_everything_is_ended_too(tmp_path):
    text = """
from torch.optim import SGD
optimizer = SGD()
while True:
    try:
        optimizer.step()
    except BaseException:
        pass
"""
    (rank,) = run_ranks(program_case(text, tmp_path), tmp_path)
    assert rank.status == 1
    assert rank.output.splitlines()[-1].endswith("or --metric REGEX for the rate that it prints")


def test_what_fails_after_the_window_does_not_cost_it(tmp_path):
    text = (
        LOOP
        + """
for step in range(100_000):
    batch = next(iter(loader))
    optimizer.step()
    if step == 20:
        raise ValueError("after the window")
"""
    )
    (rank,) = run_ranks(program_case(text, tmp_path, steps=5, warmup=5, decompose=True), tmp_path)
    assert rank.error == "ValueError: after the window"
    assert len(rank.record.step_s) == 5
    assert (rank.record.complete, list(rank.record.missing)) == (False, ["decomposition"])


def test_what_can_not_be_recorded_is_no_fault_of_the_program(tmp_path):
    text = (
        LOOP.replace("(4, 2)", "(10**300, 2)")
        + """
while True:
    try:
        train()
    except Exception as problem:
        print("it took this for its own:", problem)
"""
    )
    (rank,) = run_ranks(program_case(text, tmp_path, steps=5), tmp_path)
    assert rank.error.startswith("train.py could not be measured, which is no fault of its own: ")
    assert "amount_per_step" in rank.error
    assert "it took this for its own" not in rank.output
