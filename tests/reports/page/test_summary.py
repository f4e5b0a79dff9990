from __future__ import annotations

import re

from reports.analysis import case_titles
from reports.analysis.cells import make_cells
from reports.analysis.findings import CellGroup
from reports.page import summary
from tests.support.builders import make_case, make_trial


def test_emulated_compute_is_named_wherever_the_workload_is():
    case = make_case(workload_options={"model": "emulated"}, flags=("emulated_compute",))
    assert "emulated compute" in case_titles.case_title(case)


def answer(*points):
    """The sentence for (backend, ranks, step time of each trial) points."""
    transports = {"single": "none"}
    cases = [
        make_case(backend=backend, transport=transports.get(backend, "gloo"), ranks=ranks)
        for backend, ranks, _ in points
    ]
    trials = [
        make_trial(case, number, step_s)
        for case, (_, _, times) in zip(cases, points, strict=True)
        for number, step_s in enumerate(times)
    ]
    return summary.group_answer(CellGroup(make_cells(cases, {}, trials, {})))


def test_the_fastest_backend_is_named_with_its_efficiency():
    output = answer(("ddp", 1, [0.1, 0.101]), ("ddp", 2, [0.06, 0.0601]), ("horovod", 2, [0.09, 0.0901]))
    assert "at 2 ranks ddp/gloo is fastest" in output
    # √(0.1 · 0.101) ÷ (2 · √(0.06 · 0.0601)) = 0.8368
    assert "ddp/gloo reaches 84 % (79–89 %) of strong scaling" in output
    assert "; horovod/gloo with 88.8 (88.2–89.5) samples/s follows" in output


def test_overlapping_intervals_are_not_a_ranking():
    output = answer(("ddp", 2, [0.06, 0.09]), ("horovod", 2, [0.061, 0.091]))
    assert "is statistically tied with" in output
    assert "fastest" not in output


def test_no_scaling_is_claimed_without_a_single_rank_to_start_from():
    assert "scaling" not in answer(("ddp", 2, [0.06, 0.061]), ("horovod", 2, [0.09, 0.091]))


def test_one_trial_each_is_no_verdict():
    assert "; a cell of one trial has no interval" in answer(("ddp", 2, [0.06]), ("horovod", 2, [0.09]))


def test_a_cell_of_one_trial_hides_no_tie_of_others():
    output = answer(("ddp", 2, [0.06, 0.09]), ("horovod", 2, [0.061, 0.091]), ("dask", 2, [0.2]))
    assert "is statistically tied with horovod/gloo" in output
    assert "one trial" not in output
    assert "dask" not in output


def test_of_many_cells_that_are_tied_three_are_named():
    times = [[0.06 + number / 1000, 0.09] for number in range(6)]
    backends = ("ddp", "horovod", "dask", "fsdp", "deepspeed", "single")
    output = answer(*((backend, 2, pair) for backend, pair in zip(backends, times, strict=True)))
    names = re.search(r"tied with (.*)", output).group(1)
    assert names.count("samples/s") == 3
    assert " and 2 more" in names
    assert "single" not in names


ALONE = (("single", 1, [0.01, 0.011]), ("ddp", 2, [0.06, 0.061]))


def test_a_single_device_that_is_faster_is_not_hidden():
    assert "a single device is faster" in answer(*ALONE)


def test_nothing_measured_is_said():
    assert summary.group_answer(CellGroup(make_cells([make_case()], {}, [], {}))) == "synthetic: no cell has a number."
