"""The parts of a step and its efficiencies, percentiles of step times by rank, and the figure of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.step_measures import PhaseTimes
from reports.analysis.cells import make_cells
from reports.analysis.step_times import find_straggler, slowest_steps, split_step, step_times_of, throughput_of
from reports.analysis.trial_measures import measure_trial
from reports.page.step_times_figure import MAX_CATEGORIES
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import page_of

PARTS = ("data", "forward", "backward", "optimizer")
seconds = st.floats(1e-5, 10)


def record(rank, world, together, alone, alone_step=None):
    alone_s = dict(zip(PARTS, alone, strict=True))
    phases = PhaseTimes(together_s=together, alone_s=alone_s, alone_step_s=alone_step, digest="d")
    return make_record(rank, world, phases=phases)


@given(st.lists(st.tuples(seconds, st.tuples(seconds, seconds, seconds, seconds), seconds), min_size=1, max_size=6))
def test_the_parts_add_up_and_the_shares_multiply(ranks):
    records = [
        record(number, len(ranks), (together, together * 2), tuple((part, part * 3) for part in alone), (whole,))
        for number, (together, alone, whole) in enumerate(ranks)
    ]
    found = split_step(records)
    own = found.data_s + found.forward_s + found.backward_s + found.optimizer_s + found.unattributed_s
    assert own + found.waiting_s + found.exposed_s == pytest.approx(found.step_s, rel=1e-12, abs=1e-12)
    mean = sum(found.own_s) / len(found.own_s)
    assert found.parallel_efficiency == pytest.approx(mean / found.step_s, rel=1e-12)
    assert 0 < found.load_balance <= 1 + 1e-12


def test_by_hand():
    records = [
        record(0, 2, (0.10, 0.12), ((0.01,), (0.02,), (0.04,), (0.01,))),
        record(1, 2, (0.11, 0.10), ((0.01,), (0.02,), (0.02,), (0.01,))),
    ]
    found = split_step(records)
    assert found.step_s == pytest.approx(0.11), "as long as on the slowest rank; who was late may catch up"
    assert found.own_s == pytest.approx((0.08, 0.06))
    assert found.waiting_s == pytest.approx(0.01)
    assert found.exposed_s == pytest.approx(0.03)
    assert found.load_balance == pytest.approx(0.875)
    assert found.communication_efficiency == pytest.approx(0.08 / 0.11)


def test_what_a_step_does_beyond_its_parts_is_not_communication():
    """Steps of 100 ms of which 50 are in no part: on two ranks 10 ms are exposed, not 60."""
    alone = ((0.01,), (0.02,), (0.0,), (0.01,))
    found = split_step([record(rank, 2, (0.10,), alone, (0.09,)) for rank in range(2)])
    assert found.exposed_s == pytest.approx(0.01)
    assert found.unattributed_s == pytest.approx(0.05)
    assert found.own_s == pytest.approx((0.09, 0.09))


def test_a_single_rank_shows_no_communication():
    """Also in records from before whole steps were timed."""
    found = split_step([record(0, 1, (0.10,), ((0.01,), (0.02,), (0.02,), (0.01,)))])
    assert (found.exposed_s, found.waiting_s) == (0.0, 0.0)
    assert found.unattributed_s == pytest.approx(0.04)
    assert found.parallel_efficiency == 1


def test_of_older_records_the_unattributed_part_is_unknown_and_not_zero():
    cases = [make_case(ranks=ranks) for ranks in (1, 2)]
    alone = ((0.01,), (0.02,), (0.02,), (0.01,))
    trials = [
        make_trial(case, ranks=tuple(record(rank, case.ranks, (0.1,), alone) for rank in range(case.ranks)))
        for case in cases
    ]
    alone_cell, pair = (cell.decomposition for cell in make_cells(cases, {}, trials, {}))
    assert pair.parts_s["exposed"].value == pytest.approx(0.04), "as it was counted then"
    assert "unattributed" not in pair.parts_s
    assert "before" in pair.unattributed_reason
    assert alone_cell.parts_s["unattributed"].value == pytest.approx(0.04)
    assert alone_cell.unattributed_reason is None


def test_a_straggler_is_named_with_its_delay():
    found = find_straggler((0.01, 0.21, 0.011, 0.01))
    assert found.rank == 1
    assert found.delay_s == pytest.approx(0.2)
    assert find_straggler((0.010, 0.011)) is None
    assert find_straggler((0.5,)) is None
    assert find_straggler((1e-5, 9e-5)) is None, "less than a millisecond is no straggler"


def test_a_rank_without_phase_times_has_no_split():
    assert split_step([make_record(0, 1)]) is None


def test_the_slowest_rank_sets_the_time():
    records = [make_record(0, 2, (0.1, 0.3)), make_record(1, 2, (0.2, 0.1))]
    assert slowest_steps(records) == [0.2, 0.3]
    assert throughput_of(records) == pytest.approx(2 * 8 / 0.4)


def test_percentiles_of_known_steps_over_all_trials():
    """1 to 101 ms in two trials: the p-th percentile is p + 1 ms."""
    first = [make_record(step_s=[number / 1000 for number in range(1, 102, 2)])]
    second = [make_record(step_s=[number / 1000 for number in range(2, 102, 2)])]
    (found,) = step_times_of([first, second])
    assert (found.rank, found.steps, found.trials) == (0, 101, 2)
    assert [found.p5_s, found.p25_s, found.median_s, found.p75_s, found.p95_s, found.slowest_s] == pytest.approx(
        [0.006, 0.026, 0.051, 0.076, 0.096, 0.101]
    )


def in_blocks(rank, world, step_s):
    """Three blocks of 40 steps and one of 20."""
    return make_record(rank, world, step_s, steps_per_entry=40, last_entry_steps=20, host_step_s=(0.05,) * 4)


def test_of_blocks_all_steps_count():
    records = [in_blocks(0, 2, (0.1, 0.3, 0.2, 0.2)), in_blocks(1, 2, (0.2, 0.1, 0.2, 0.4))]
    assert throughput_of(records) == pytest.approx(140 * 8 / (40 * 0.6 + 20 * 0.2))
    assert slowest_steps(records) == [0.2, 0.3, 0.2, 0.4]
    found = step_times_of([records])
    assert [(one.steps, one.steps_per_entry, one.host_median_s) for one in found] == [(140, 40, 0.05)] * 2
    trial = measure_trial(make_trial(make_case(), ranks=tuple(records)))
    assert (trial.steps, trial.window_amount, trial.host_step_s) == (140, 140 * 8, pytest.approx(0.05))
    (cell,) = make_cells([make_case()], {}, [make_trial(make_case(), ranks=tuple(records))], {})
    assert cell.host_step_s.value == pytest.approx(0.05)


def test_a_figure_of_blocks_says_so():
    case = make_case(ranks=1)
    figure = figure_of([make_trial(case, ranks=(in_blocks(0, 1, (0.1, 0.3, 0.2, 0.2)),))])
    assert "blocks of up to 40 steps" in figure.caption
    assert "on average of a block" in figure.caption
    assert "up to 40 steps each" in figure.table.note
    assert figure.table.rows[0][-2:] == ("140", "1")


def test_ranks_are_kept_apart():
    found = step_times_of([[make_record(1, 2, (0.3,) * 3), make_record(0, 2, (0.1,) * 3)]])
    assert [(one.rank, one.median_s) for one in found] == [(0, pytest.approx(0.1)), (1, pytest.approx(0.3))]


def figure_of(trials):
    cases = list({trial.case.key: trial.case for trial in trials}.values())
    page = page_of(make_cells(cases, {}, trials, {}))
    found = [figure for section in page.sections for figure in section.figures if figure.key.endswith("step-times")]
    return found[0] if found else None


def uneven(case):
    """Each rank's steps last 1 % longer than those of the rank before it; the last rank's last step ten times."""
    steps = [[0.1 * (1 + rank / 100)] * 20 for rank in range(case.ranks)]
    steps[-1][-1] *= 10
    ranks = tuple(make_record(rank, case.ranks, times) for rank, times in enumerate(steps))
    return make_trial(case, ranks=ranks)


def test_the_figure_names_the_slowest_rank_and_the_slowest_step():
    figure = figure_of([uneven(make_case(ranks=1)), uneven(make_case(ranks=4))])
    assert figure.categories[0] == "ddp/gloo, 4 · rank 0", "the largest rank count stands first"
    assert figure.categories[-1] == "ddp/gloo, 1 · rank 0"
    assert "ddp/gloo rank 3, 3.0 % above rank 0" in figure.caption
    assert "10.0 times the median of its rank" in figure.caption
    assert "not independent" in figure.table.note
    middle, slowest = figure.series
    assert {middle.mark, slowest.mark} == {"markers"}
    assert middle.y[0] == middle.low[0] == pytest.approx(0.1)
    assert slowest.y[3] == pytest.approx(1.03)
    assert figure.table.rows[3][1:] == ("103 ms", "103 ms", "103 ms", "103 ms", "149 ms", "1.03 s", "20", "1")


def test_a_slow_step_far_above_the_rest_takes_a_logarithmic_scale():
    def log_of(last_s):
        return figure_of([make_trial(make_case(ranks=1), ranks=(make_record(step_s=(0.1, 0.1, last_s)),))]).log_y

    assert not log_of(0.3)
    assert log_of(9.0)


def test_of_too_many_ranks_the_slowest_of_each_backend_are_shown():
    figure = figure_of([uneven(make_case(backend=name, ranks=24)) for name in ("ddp", "horovod")])
    assert len(figure.categories) == MAX_CATEGORIES
    assert figure.categories[0] == "ddp/gloo, 24 · rank 16"
    assert figure.categories[-1] == "horovod/gloo, 24 · rank 23"
    assert "rank 23, 23.0 % above rank 0" in figure.caption, "the fastest rank is named though it is not drawn"
    assert figure.caption.endswith("Shown are 16 of 48 ranks of all cells: the slowest at 24 ranks.")


def test_smaller_rank_counts_are_left_out_whole():
    figure = figure_of([uneven(make_case(ranks=ranks)) for ranks in (4, 8, 12)])
    assert [name.split(",")[1].split("·")[0].strip() for name in figure.categories] == ["12"] * 12
    assert figure.caption.endswith("Shown are 12 of 24 ranks of all cells: the largest rank counts.")


def test_without_a_good_trial_there_is_no_figure():
    assert figure_of([make_trial(make_case(), outcome="failed", reason="x", ranks=())]) is None
