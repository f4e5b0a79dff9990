from __future__ import annotations

import pytest

from bench.core.case import Case
from bench.core.step_measures import DevicePeak, PhaseTimes, PrecisionPeak, StepWork
from bench.rank.roofline import attention_flops
from harness.reporting.json_document import cell_as_json
from reports.analysis.cells import make_cells
from reports.analysis.roofline import roofline_of
from reports.analysis.step_times import split_step
from reports.page.roofline import ROOFLINE_TITLE, peaks_table
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import page_of

HOW = "float32 product of 512×512 matrices"


def trial_of(case: Case, step_s=0.1, flops=6e9, bytes_moved=1e9, peak=(1e11, 2e10), own_s=0.05, **changes):
    """A trial whose every rank did the same work at the same peak."""
    own = {"data": (0.0,), "forward": (own_s,), "backward": (0.0,), "optimizer": (0.0,)}
    fields = {
        "step_work": StepWork(flops=flops, bytes_moved=bytes_moved, dtypes=("float32",)),
        "peak": DevicePeak(flop_s=peak[0], bytes_s=peak[1], how=HOW) if isinstance(peak, tuple) else peak,
        "phases": PhaseTimes(together_s=(step_s,), alone_s=own, digest="d") if own_s else None,
    }
    ranks = tuple(make_record(rank, case.ranks, (step_s, step_s), **(fields | changes)) for rank in range(case.ranks))
    return make_trial(case, ranks=ranks)


def cells_of(trial):
    return make_cells([trial.case], {}, [trial], {})


def roofline(trials):
    return roofline_of(trials, [split_step(trial.ranks) for trial in trials])


def test_by_hand_under_the_flat_roof():
    found, why = roofline([trial_of(make_case(ranks=2))])
    assert why is None
    assert (found.flops, found.bytes_moved, found.intensity) == (12e9, 2e9, 6)
    assert (found.bound, found.attainable_flop_s) == ("compute", 2e11), "6 FLOPs a byte are past the ridge at 5"
    assert found.reached_flop_s.value == pytest.approx(1.2e11)
    assert found.mfu.value == found.reached_share.value == pytest.approx(0.6)
    assert found.own_mfu.value == pytest.approx(1.2)
    assert found.how == HOW


def test_by_hand_under_the_slope():
    found, _ = roofline([trial_of(make_case(ranks=1), flops=1e9, own_s=None)])
    assert (found.bound, found.attainable_flop_s) == ("memory", 2e10)
    assert found.mfu.value == pytest.approx(0.1)
    assert found.reached_share.value == pytest.approx(0.5)
    assert found.own_mfu is None


def test_the_step_is_the_slowest_rank_s_and_own_time_each_rank_s():
    case = make_case(ranks=2)
    fast, slow = trial_of(case, step_s=0.1, own_s=0.1), trial_of(case, step_s=0.2, own_s=0.2, peak=(5e10, 1e10))
    found, _ = roofline([make_trial(case, ranks=(fast.ranks[0], slow.ranks[1]))])
    assert found.mfu.value == pytest.approx(12e9 / (0.2 * 1.5e11))
    assert found.own_mfu.value == pytest.approx(12e9 / (0.1 * 1e11 + 0.2 * 5e10))


def test_recomputed_activations_are_no_work_of_the_model_but_of_the_hardware():
    counted = StepWork(flops=6e9, executed_flops=8e9, bytes_moved=1e9, dtypes=("float32",), product_dtypes=("float32",))
    found, _ = roofline([trial_of(make_case(ranks=2), step_work=counted)])
    assert found.mfu.value == pytest.approx(0.6)
    assert found.hfu.value == pytest.approx(0.8)
    plain, _ = roofline([trial_of(make_case(ranks=2))])
    assert plain.hfu == plain.mfu


def test_the_peak_is_that_of_the_type_of_the_products_whatever_else_a_step_computes_in():
    counted = StepWork(flops=6e9, bytes_moved=1e9, dtypes=("bfloat16", "float32"), product_dtypes=("bfloat16",))
    found, _ = roofline(
        [trial_of(make_case(), step_work=counted, peak=DevicePeak(flop_s=1e11, bytes_s=2e10, how="", dtype="bfloat16"))]
    )
    assert (found.dtype, found.mfu.value) == ("bfloat16", pytest.approx(0.6))


H200_PEAK = DevicePeak(
    flop_s=761e12,
    bytes_s=4e12,
    how="bfloat16 product",
    dtype="bfloat16",
    clock_hz=1.62e9,
    power_cap_w=700,
    precisions=(
        PrecisionPeak(dtype="float32", flop_s=50.7e12),
        PrecisionPeak(dtype="tf32", flop_s=402e12),
        PrecisionPeak(dtype="float8_e4m3fn", flop_s=None, reason="no such product"),
    ),
)
"""After what one H200 reached with random numbers."""


def test_the_peaks_of_gpus_in_every_type_are_those_of_all_ranks_with_the_slowest_one_s_clock():
    case = make_case(ranks=2)
    counted = StepWork(flops=6e9, bytes_moved=1e9, dtypes=("bfloat16",), product_dtypes=("bfloat16",))
    cool = trial_of(case, step_work=counted, peak=H200_PEAK)
    hot = trial_of(case, step_work=counted, peak=H200_PEAK.model_copy(update={"clock_hz": 1.395e9}))
    trial = make_trial(case, ranks=(cool.ranks[0], hot.ranks[1]))
    found, _ = roofline([trial])
    assert (found.clock_hz, found.power_cap_w, found.limits_reason) == (1.395e9, 700, None)
    peaks = {peak.dtype: (peak.flop_s, peak.reason) for peak in found.precisions}
    assert peaks["tf32"] == (804e12, None)
    assert peaks["float8_e4m3fn"] == (None, "no such product")
    rows = {row[1]: row[2:] for row in peaks_table(cells_of(trial)).rows}
    assert rows["bfloat16"] == ("1.52 PFLOP/s", "15.0×", "1.40 GHz", "700 W")
    assert rows["tf32"] == ("804 TFLOP/s", "7.93×", "–", "–")
    assert rows["float8_e4m3fn"][:2] == ("unknown: no such product", "–")
    assert peaks_table(cells_of(trial_of(case))).rows == (), "a CPU's are not measured"


def test_a_clock_that_one_rank_does_not_know_is_unknown():
    case = make_case(ranks=2)
    unknown = H200_PEAK.model_copy(update={"clock_hz": None, "limits_reason": "clock: no permission"})
    counted = StepWork(flops=6e9, bytes_moved=1e9, dtypes=("bfloat16",), product_dtypes=("bfloat16",))
    trials = [trial_of(case, step_work=counted, peak=peak) for peak in (H200_PEAK, unknown)]
    trial = make_trial(case, ranks=(trials[0].ranks[0], trials[1].ranks[1]))
    found, _ = roofline([trial])
    assert (found.clock_hz, found.power_cap_w, found.limits_reason) == (None, 700, "clock: no permission")


def test_one_trial_counts_every_trial_is_timed():
    case = make_case(ranks=1)
    later = trial_of(case, step_s=0.2, step_work=None, peak=None)
    found, _ = roofline([later, trial_of(case, step_s=0.05)])
    assert found.mfu.n == 2
    assert found.mfu.value == pytest.approx(6e9 / (0.1 * 1e11)), "the geometric mean of 50 and 200 ms"


@pytest.mark.parametrize(
    ("trial", "output"),
    [
        (trial_of(make_case(flags=("emulated_compute",))), "the compute is a wait"),
        (trial_of(make_case(), kind="collective"), "no model is trained"),
        (trial_of(make_case(), step_work=None, peak=None), "only a cell's first trial measures"),
        (trial_of(make_case(), peak=None, peak_reason="no room"), "rank 0: no room"),
        (trial_of(make_case(), step_work=None, missing={"roofline": "sparse"}), "rank 0: sparse"),
        (trial_of(make_case(), peak=(1e10, 1e10)), "which was disturbed"),
        (trial_of(make_case(), flops=0), "no operation of the step has a known number of FLOPs and of bytes"),
        (trial_of(make_case(), bytes_moved=0), "no operation of the step has a known number of FLOPs and of bytes"),
        (
            trial_of(make_case(), step_work=StepWork(flops=1, bytes_moved=1, dtypes=("bfloat16", "float32"))),
            "computes in bfloat16, the measured peak is of float32",
        ),
        (
            trial_of(
                make_case(),
                step_work=StepWork(flops=1, bytes_moved=1, dtypes=("float32",), product_dtypes=("bfloat16", "float32")),
            ),
            "computes in bfloat16, the measured peak is of float32",
        ),
    ],
)
def test_unknown_has_its_reason(trial, output):
    found, why = roofline([trial])
    assert found is None
    assert output in why


def test_attention_is_two_products():
    scores, weighted = 2 * 3 * 4 * 5 * 7 * 8, 2 * 3 * 4 * 5 * 7 * 9
    assert attention_flops((3, 4, 5, 8), (3, 4, 7, 8), (3, 4, 7, 9), 0.0, True, scale=None) == scores + weighted


@pytest.fixture
def cells():
    cases = [make_case(ranks=ranks) for ranks in (1, 2)]
    waited = make_case(workload_options={"model": "emulated"}, flags=("emulated_compute",))
    collective = make_case(workload="allreduce")
    skipped = make_case(backend="single")
    trials = [*map(trial_of, (*cases, waited)), trial_of(collective, kind="collective")]
    return make_cells([*cases, waited, collective, skipped], {skipped.key: "not here"}, trials, {})


def test_the_page_has_its_table_and_figure(cells):
    section, waited = [one for one in page_of(cells).sections if one.title == ROOFLINE_TITLE]
    (table,) = section.tables
    assert [row[1:3] for row in table.rows] == [("60.0 %", "60.0 %")] * 2
    assert [row[1:3] for row in waited.tables[0].rows] == [("unknown: the compute is a wait", "–")], "no model, no row"
    assert {len(row) for row in table.rows} == {len(table.header)}
    assert table.rows[1][4:10] == ("12.0 GFLOP", "2.00 GB", "6.00", "float32", "200 GFLOP/s", "40.0 GB/s")
    assert table.rows[1][10:12] == ("200 GFLOP/s", "compute")
    assert HOW in table.note
    (figure,) = section.figures
    assert [series.mark for series in figure.series] == ["line", "line", "markers"]
    roof, dots = figure.series[0], figure.series[-1]
    assert (roof.x[1], roof.y[1], roof.y[2]) == (5, 1e11, 1e11)
    assert roof.y[0] == pytest.approx(roof.x[0] * 2e10)
    assert dots.y == pytest.approx((6e10, 6e10)), "of one rank"
    assert figure.caption.startswith("The highest model FLOPs utilization is 60.0 %, of ddp/gloo · 1 rank")


def test_no_figure_without_a_roofline(cells):
    (section,) = [one for one in page_of(cells[2:]).sections if one.title == ROOFLINE_TITLE]
    assert section.figures == ()


def test_json_has_it_or_the_reason(cells):
    output = [cell_as_json(cell) for cell in cells]
    assert output[0]["roofline"]["mfu"]["value"] == pytest.approx(0.6)
    assert [cell["roofline_reason"] for cell in output] == [
        None,
        None,
        "the compute is a wait",
        "no model is trained",
        "the cell has no number",
    ]
