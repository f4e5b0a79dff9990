"""A step in which the device waits for the host: what the report says of it, from the numbers of one H200."""

from __future__ import annotations

import math

import pytest

from bench.core.records import DEVICE_BUSY
from bench.core.step_measures import PhaseTimes, QueuedSteps
from harness.reporting.json_document import cell_as_json
from reports.analysis.bottleneck import COMPUTE, EXPOSED, HOST_BOUND, SLOWER, WAITING, limiting_term
from reports.analysis.cells import make_cells
from reports.analysis.device_busy import device_time
from reports.analysis.findings import analyse_cells
from reports.formats.trial_rows import SweepFacts, rows_of
from reports.page.bottleneck_table import bottleneck_table
from reports.page.summary import further_sentences
from tests.support.builders import make_case, make_record, make_trial
from tests.support.gpu_cells import gpu_case, gpu_trial

EAGER_STEPS_S, GRAPH_STEPS_S = 1137, 6651
"""An mlp at batch 512 on an H200: steps a second, eager and as a replayed CUDA graph."""


def queued(busy_s, step_s, exchanged=True):
    return QueuedSteps(exchanged=exchanged, steps=16, queued_s=(busy_s,) * 3, stepped_s=(step_s,) * 3)


def h200_cell(busy_s=1 / GRAPH_STEPS_S, step_s=1 / EAGER_STEPS_S, ranks=1, **changes):
    case = make_case(
        **{"backend": "single", "transport": "none", "device": "cuda", "ranks": ranks, "batch": 512, **changes}
    )
    record = make_record(
        step_s=(step_s,) * 4, device="NVIDIA H200", amount_per_step=512, queued_steps=(queued(busy_s, step_s),)
    )
    trials = [make_trial(case, number, ranks=(record,)) for number in range(3)]
    return make_cells([case], {}, trials, {})[0]


def test_the_why_of_the_h200_is_the_host():
    cell = h200_cell()
    (answer,) = further_sentences(analyse_cells([cell]))
    assert "the host can't feed the GPU, which waits for launches for 83 % (83–83 %) of a step." in answer
    assert (
        "Predicted at best: cuda_graph=true takes a step from 0.880 ms to 0.150 ms, 5.85 times the throughput" in answer
    )
    assert "a batch 5.85 times as large takes as long for a step as now." in answer
    (why,) = analyse_cells([cell]).bottlenecks
    assert why.limited_by == HOST_BOUND
    assert why.host_bound == pytest.approx(1 - EAGER_STEPS_S / GRAPH_STEPS_S)
    document = cell_as_json(cell)
    assert document["launch_bound"]["most_speedup"] == pytest.approx(GRAPH_STEPS_S / EAGER_STEPS_S)
    assert document["device_busy"]["value"] == pytest.approx(1 / GRAPH_STEPS_S)
    assert document["usage"]["host_bound_share"]["value"] == pytest.approx(0.829, abs=1e-3)
    table = bottleneck_table([why], scaling=False)
    assert table.caption == "What limits a step"
    assert dict(zip(table.header, table.rows[0], strict=True))["launch-bound"] == "83 %"
    assert "5.85 ×" in table.rows[0]


def test_readings_of_the_window_that_tell_the_same_are_named():
    """Made after the telemetry of an H200: SM activity 0.03 to 0.05, and one core of the host at 0.97 to 1.0."""
    case = gpu_case("single", "none")
    trials = [gpu_trial(case, "launch_bound", EAGER_STEPS_S, number, busy_s=1 / GRAPH_STEPS_S) for number in range(3)]
    (cell,) = make_cells([case], {}, trials, {})
    assert "of a step (SM activity 4 %, rank CPU 0.990 cores). Predicted" in cell.launch_bound.answer
    unknown = dict.fromkeys(("id", "started_at", "environment", "host", "system", "cpu", "python"), "unknown")
    sweep = SweepFacts(
        **unknown, commit=None, changed_files=None, cores=16, memory_bytes=2**30, gpus=("H200",), packages={}
    )
    row = next(rows_of(sweep, [cell], trials))
    assert row.host_bound_share == pytest.approx(0.829, abs=1e-3)
    assert row.device_busy_s == pytest.approx(cell.measures[0].step_s * (1 - row.host_bound_share))


def test_a_device_that_is_busy_is_limited_by_its_compute():
    cell = h200_cell(busy_s=0.98e-3, step_s=1e-3)
    assert cell.launch_bound is None
    assert further_sentences(analyse_cells([cell])) == []
    assert analyse_cells([cell]).bottlenecks == ()
    assert cell.device_busy_s.value == pytest.approx(0.98e-3)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"workload_options": {"cuda_graph": True}}, "is set"),
        ({"backend": "fsdp", "transport": "nccl"}, "fsdp does not take cuda_graph=true"),
        ({"workload_options": {"compile": "default"}}, "captures its own"),
        ({"backend": "one_of_elsewhere"}, "unknown here"),
    ],
)
def test_a_graph_that_is_refused_is_not_promised(changes, refused):
    found = h200_cell(**changes).launch_bound
    assert refused in found.graph_refused
    assert "takes a step from" not in found.answer
    assert "a batch 5.85 times as large" in found.answer


def test_old_records_and_cpus_say_nothing():
    case = make_case()
    (cell,) = make_cells([case], {}, [make_trial(case)], {})
    assert (cell.device_busy_s, cell.device_busy_reason, cell.launch_bound) == (None, None, None)
    assert "device_busy" not in {reading.name for reading in cell.usage}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"queued_steps_reason": "a step waits for the device"}, "a step waits for the device"),
        ({"missing": {DEVICE_BUSY: "OutOfMemoryError: 3 GiB"}, "failed_at": 1.0}, "rank 0: OutOfMemoryError: 3 GiB"),
    ],
)
def test_an_unknown_device_time_is_null_with_its_reason(changes, reason):
    case = make_case(ranks=1, device="cuda")
    trial = make_trial(case, ranks=(make_record(device="NVIDIA H200", **changes),))
    (cell,) = make_cells([case], {}, [trial], {})
    assert (cell.device_busy_s, cell.device_busy_reason) == (None, reason)
    assert cell_as_json(cell)["usage"]["device_busy"] == {"value": None, "reason": reason}


@pytest.mark.parametrize(("queued_s", "share"), [(8.4e-3, -0.05), (16e-3, None)])
def test_queued_steps_may_seem_longer_by_noise_and_no_more(queued_s, share):
    case = make_case(ranks=1, device="cuda")
    record = make_record(device="NVIDIA H200", step_s=(8e-3,) * 4, queued_steps=(queued(queued_s, 8e-3),))
    (cell,) = make_cells([case], {}, [make_trial(case, ranks=(record,))], {})
    reason = None if share else "disturbed: queued steps took 2.00× as long as those beside them"
    assert cell.device_busy_reason == reason
    assert (cell.device_busy_s is None) == (share is None)


def test_the_rank_that_was_released_last_has_the_device_time_of_a_step():
    """Rank 0 was released 2 ms before rank 1, which it then waited for in the exchange."""
    ranks = [
        make_record(0, 2, queued_steps=(queued(5e-3, 8e-3),)),
        make_record(1, 2, queued_steps=(queued(3e-3, 8e-3),)),
    ]
    found = device_time(ranks, step_s=8e-3)
    assert found.busy_s == pytest.approx(3e-3)
    assert found.host_bound_share == pytest.approx(5 / 8)
    assert device_time([ranks[0], make_record(1, 2)], 8e-3) is None, "one rank has none"
    other = QueuedSteps(exchanged=True, steps=16, queued_s=(3e-3,), stepped_s=(8e-3,))
    assert device_time([ranks[0], make_record(1, 2, queued_steps=(other,))], 8e-3) is None, "other blocks"


def test_steps_without_the_exchange_tell_what_the_host_holds_back_in_compute():
    """Own work of 6 ms, of which the device needs 2, in a step of 10 ms with an exchange on the host."""
    ranks = [make_record(rank, 2, queued_steps=(queued(2e-3, 6e-3, exchanged=False),)) for rank in range(2)]
    found = device_time(ranks, step_s=10e-3)
    assert found.in_compute == found.host_bound_share == pytest.approx(0.4)
    assert found.busy_s == pytest.approx(6e-3), "the exchange stays as it is"


def scaled_trial(case, number, own_s, busy_s, step_s):
    """Ranks whose own work takes ``own_s``, of which the device needs ``busy_s``."""
    phases = PhaseTimes(
        together_s=(step_s,),
        digest="d",
        alone_s={"data": (0.0,), "forward": (own_s / 2,), "backward": (own_s / 4,), "optimizer": (own_s / 4,)},
        alone_step_s=(own_s,) if case.ranks > 1 else None,
    )
    kinds = (queued(busy_s + step_s - own_s, step_s), queued(busy_s, own_s, exchanged=False))
    ranks = tuple(
        make_record(
            rank, case.ranks, (step_s,) * 2, phases=phases, device="GPU", queued_steps=kinds[: 1 + (case.ranks > 1)]
        )
        for rank in range(case.ranks)
    )
    return make_trial(case, number, ranks=ranks)


def test_on_a_curve_it_is_a_part_of_compute_and_the_terms_add_up():
    """Strong scaling from one GPU to two: the device's work halves, the host's launches stay, and so does compute."""
    cases = [make_case(ranks=ranks, device="cuda", transport="nccl") for ranks in (1, 2)]
    times = {1: (1e-3, 0.8e-3, 1e-3), 2: (1e-3, 0.4e-3, 1.2e-3)}
    trials = [scaled_trial(case, number, *times[case.ranks]) for case in cases for number in range(3)]
    cells = make_cells(cases, {}, trials, {})
    (why,) = analyse_cells(cells).bottlenecks
    assert (why.case.ranks, why.limited_by) == (2, HOST_BOUND)
    assert math.fsum(why.shares.values()) == pytest.approx(1)
    assert why.host_bound == pytest.approx(0.6 / 1.2)
    assert why.host_bound < why.shares[COMPUTE] == pytest.approx(1 / 1.2)
    assert why.shares[EXPOSED] == pytest.approx(0.2 / 1.2)
    assert bottleneck_table([why]).caption == "What limits scaling"
    (sentence,) = further_sentences(analyse_cells(cells))
    assert sentence.startswith("synthetic: under ddp/nccl at 2 ranks the host can't feed the GPU")


@pytest.mark.parametrize(
    ("shares", "slower", "host_bound", "term"),
    [
        ({COMPUTE: 0.9, EXPOSED: 0.1}, 0.5, 0.4, HOST_BOUND),
        ({COMPUTE: 0.4, EXPOSED: 0.6}, 0.2, 0.3, EXPOSED),
        ({COMPUTE: 0.9, WAITING: 0.1}, 0.5, 0.02, SLOWER),
        ({COMPUTE: 1.0}, None, None, COMPUTE),
        ({COMPUTE: 1.0}, None, 0.08, COMPUTE),
    ],
)
def test_what_limits_is_the_largest_loss_and_the_host_explains_slower_compute(shares, slower, host_bound, term):
    assert limiting_term(shares, slower, host_bound) == term
