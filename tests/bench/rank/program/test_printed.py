"""The rate that a program prints: found in pieces of output, and as what marks its steps."""

from __future__ import annotations

import pytest

from bench.rank.program.printed import MAX_LINE_BYTES, PrintedValues, WatchedOutput
from tests.bench.rank.program.test_end_of_program import LOOP
from tests.support.programs import program_case, run_ranks

METRIC = "throughput: ([0-9.,]+) img/s"


@pytest.fixture
def output(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        yield log.fileno()


def values_of(output, pieces, metric=METRIC):
    values = PrintedValues(metric)
    raw = WatchedOutput(output, values.look)
    for piece in pieces:
        raw.write(piece)
    raw.look_at_rest()
    return values.between(0, 2**63)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"throughput: 12.5 img/s\n"], [12.5]),
        ([b"through", b"put: 1", b"2.5 im", b"g/s\nthroughput: 3 img/s\n"], [12.5, 3.0]),
        ([b"\r 10%| throughput: 1 img/s", b"\r 20%| throughput: 2 img/s", b"\r\n"], [1.0, 2.0]),
        ([b"throughput: 7 img/s"], [7.0]),
        ([b"throughput: 1,234.5 img/s\n"], [1234.5]),
        ([b"throughput: 1.2.3 img/s\n", b"throughput: . img/s\n"], []),
        ([b"\xff\xfe throughput: 4 img/s\n"], [4.0]),
        ([b"x" * MAX_LINE_BYTES * 3, b"throughput: 5 img/s\n"], [5.0]),
    ],
)
def test_values_are_found_line_by_line(output, pieces, expected):
    assert values_of(output, pieces) == expected


def test_all_that_is_written_reaches_the_log(output, tmp_path):
    values_of(output, [b"a\r", b"b\nthroughput: 1 img/s", b"\n\n"])
    assert (tmp_path / "log").read_bytes() == b"a\rb\nthroughput: 1 img/s\n\n"


def test_only_the_last_values_are_kept_and_all_are_counted(output, monkeypatch):
    monkeypatch.setattr("bench.rank.program.printed.MAX_VALUES", 4)
    values = PrintedValues("v=([0-9]+)")
    for number in range(10):
        values.look(b"v=%d" % number)
    assert values.between(0, 2**63) == [6.0, 7.0, 8.0, 9.0]
    assert values.count == 10


PRINTING = """
import logging, sys, time, os
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
rank = int(os.environ.get("RANK", 0))
for step in range(100_000):
    time.sleep(0.002)
    if rank == 0:
        logging.info("throughput: %s img/s", 100 + step % 2)
"""


@pytest.mark.slow
def test_prints_make_the_steps_where_nothing_else_is_seen(tmp_path):
    case = program_case(PRINTING, tmp_path, options={"metric": METRIC})
    (rank,) = run_ranks(case, tmp_path)
    assert rank.status == 0, rank.output
    run = rank.record.program
    assert (run.counted, run.steps_from, run.ended, run.optimizers) == ("printed", "output", "stopped", None)
    assert set(run.printed) == {100.0, 101.0}
    assert min(rank.record.step_s) > 0.0015


@pytest.mark.slow
def test_ranks_that_print_nothing_follow_rank_0(tmp_path):
    case = program_case(PRINTING, tmp_path, ranks=2, options={"metric": METRIC}, steps=10)
    first, second = (rank.record for rank in run_ranks(case, tmp_path))
    assert (first.warmup_steps, len(first.step_s)) == (second.warmup_steps, len(second.step_s)) == (10, 10)
    assert sum(first.step_s) == pytest.approx(sum(second.step_s), abs=1e-6)
    assert second.program.printed == ()


@pytest.mark.slow
def test_a_window_of_optimizer_steps_holds_printed_values(tmp_path):
    text = LOOP + "\nfor epoch in range(1000):\n    train(4)\n    print('throughput: 50 img/s')\n"
    (rank,) = run_ranks(program_case(text, tmp_path, options={"metric": METRIC}), tmp_path)
    assert rank.status == 0, rank.output
    assert rank.record.program.steps_from == "optimizer"
    assert len(rank.record.program.printed) >= 2


@pytest.mark.slow
def test_a_program_that_prints_no_match(tmp_path):
    (rank,) = run_ranks(program_case("print('loss 3')", tmp_path, options={"metric": METRIC}), tmp_path)
    assert "no line of its output matches --metric" in rank.error


@pytest.mark.slow
def test_output_that_a_program_replaces_is_still_seen(tmp_path):
    text = """
import sys, time
class Tee:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text)
    def flush(self): self.stream.flush()
sys.stdout = Tee(sys.stdout)
while True:
    time.sleep(0.001)
    print("throughput: 5 img/s")
"""
    (rank,) = run_ranks(program_case(text, tmp_path, options={"metric": METRIC}, steps=5), tmp_path)
    assert rank.status == 0, rank.output
    assert rank.record.program.printed[0] == 5.0


@pytest.mark.slow
def test_a_program_that_closes_its_output_is_measured(tmp_path):
    text = LOOP + "\nimport os, sys\nsys.stderr.close()\nsys.stdout.close()\ntrain()\n"
    (rank,) = run_ranks(program_case(text, tmp_path, steps=5), tmp_path)
    assert rank.status == 0
    assert rank.record.program.ended == "stopped"
