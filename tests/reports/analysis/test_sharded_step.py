"""Sharded training: α and β of its operations, its step from gathers and scatters, and what is said to be missing."""

from __future__ import annotations

from functools import partial

import pytest

from bench.core.gradients import GradientBuckets, Gradients, ShardedUnits
from bench.core.step_measures import MessageTiming, PhaseTimes
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.operation_models import operation_models, ring_coefficients
from reports.analysis.sharded_step import predict_sharded_step
from reports.analysis.step_model import OwnTimes
from reports.page.communication import operation_table
from tests.support.builders import make_case, make_record, make_trial

ALPHA_S, BETA_S = 2e-4, 1e-9
SIZES = (2**12, 2**16, 2**20, 2**24)
UNITS = ShardedUnits(unit_bytes=(2**22, 2**23, 2**20), gathered_again=True, overlaps=False)
OWN = OwnTimes(data_s=0.0, forward_s=0.010, backward_s=0.020, optimizer_s=0.004)
DDP_SHARE = {"data": 0.0, "forward": 0.010, "backward": 0.020, "optimizer": 0.004}


def ring_s(ranks, size):
    steps, carried = ring_coefficients(ranks, size)
    return steps * ALPHA_S + carried * BETA_S


def test_ring_coefficients_by_hand():
    assert ring_coefficients(2, 1000) == (1.0, 500.0)
    assert ring_coefficients(4, 1000) == (3.0, 750.0)


def test_without_overlap_every_gather_and_scatter_is_added():
    # Gathers of 1 s per MiB, scatters of 2 s per MiB: 13 MiB in three units.
    units = UNITS.model_copy(update={"unit_bytes": (4 * 2**20, 8 * 2**20, 2**20)})

    def seconds(per_mib):
        return lambda size: per_mib * size / 2**20

    kept = units.model_copy(update={"gathered_again": False})
    assert predict_sharded_step(OWN, units, seconds(1.0), seconds(2.0)) == pytest.approx(0.034 + 2 * 13 + 26)
    assert predict_sharded_step(OWN, kept, seconds(1.0), seconds(2.0)) == pytest.approx(0.034 + 13 + 26)
    halved = units.model_copy(update={"gather_share": 0.5, "reduce_share": 0.25})
    assert predict_sharded_step(OWN, halved, seconds(1.0), seconds(2.0)) == pytest.approx(0.034 + 13 + 6.5)


def test_with_overlap_only_what_exceeds_the_compute_is_added():
    units = ShardedUnits(unit_bytes=(1, 1, 1), gathered_again=True, overlaps=True)
    # Two gathers of 4 ms hide behind 10 ms; three gathers and two scatters of 4 ms are as long as 20 ms.
    assert predict_sharded_step(OWN, units, lambda _: 0.004, lambda _: 0.004) == pytest.approx(0.034 + 0.004 + 0.004)
    # 2 × 8 ms exceed the forward pass by 6 ms; 3 × 8 + 2 × 8 ms exceed the backward pass by 20 ms.
    slow = predict_sharded_step(OWN, units, lambda _: 0.008, lambda _: 0.008)
    assert slow == pytest.approx(0.034 + 0.008 + 0.006 + 0.008 + 0.020)


def sharded_sweep(
    ranks=(1, 2), operations=("all_gather", "reduce_scatter"), donor=True, slower=1.0, sizes=SIZES, handling_s=0.0
):
    """fsdp steps that follow the model exactly, ddp's decomposed ones, and the operations alone."""
    cases, trials = [], []

    def add(case, records):
        cases.append(case)
        trials.extend(make_trial(case, number, ranks=records) for number in range(2))

    for count in ranks:
        # Strong scaling: the parts that go with the samples are divided among the ranks.
        share = {name: seconds / count if name != "optimizer" else seconds for name, seconds in DDP_SHARE.items()}
        if donor:
            total = sum(share.values())
            phases = PhaseTimes(
                together_s=(total,) * 4,
                alone_s={name: (seconds,) * 4 for name, seconds in share.items()},
                alone_step_s=(total,) * 4 if count > 1 else None,
                digest="end",
            )
            gradients = Gradients(
                tensor_bytes=(1024,), grouping=GradientBuckets(first_bytes=1, most_bytes=1, laid_out=True)
            )
            case = make_case(ranks=count, batch=64)
            add(
                case,
                tuple(
                    make_record(rank, count, (total, total), amount_per_step=64, phases=phases, gradients=gradients)
                    for rank in range(count)
                ),
            )
        own = OwnTimes(**{f"{name}_s": seconds for name, seconds in share.items()})
        own = own.model_copy(update={"optimizer_s": own.optimizer_s / count})
        own = own.model_copy(update={"handling_s": handling_s})
        step_s = own.total_s
        if count > 1:
            step_s = slower * predict_sharded_step(own, UNITS, partial(ring_s, count), partial(ring_s, count))
        add(
            make_case(backend="fsdp", ranks=count, batch=64),
            tuple(
                make_record(rank, count, (step_s, step_s), amount_per_step=64, sharded=UNITS) for rank in range(count)
            ),
        )
        for operation in operations if count > 1 else ():
            case = make_case(
                workload="collectives",
                workload_options={"operation": operation},
                backend="fsdp",
                ranks=count,
                batch=1,
                scaling="weak",
            )
            messages = tuple(
                MessageTiming(message_bytes=size, times_s=(ring_s(count, size),) * 3, operation=operation)
                for size in sizes
            )
            add(
                case,
                tuple(
                    make_record(rank, count, kind="collective", unit="bytes", amount_per_step=1, messages=messages)
                    for rank in range(count)
                ),
            )
    return make_cells(cases, {}, trials, {})


def forecast_of(cells):
    found = analyse_cells(cells)
    return next(curve for curve in found.curve_predictions if curve.case.backend == "fsdp")


def test_alpha_and_beta_of_each_operation_are_found_again():
    models = operation_models(sharded_sweep())
    assert sorted(operation for _, operation, _ in models) == ["all_gather", "reduce_scatter"]
    for model in models.values():
        assert model.latency_s.value == pytest.approx(ALPHA_S, rel=1e-4)
        assert model.byte_s.value == pytest.approx(BETA_S, rel=1e-4)
        assert (model.place, model.rank_counts) == ("inside", (2,))
        assert model.time_s(4, 2**20) == pytest.approx(ring_s(4, 2**20), rel=1e-4)
    assert len(operation_table(list(models.values())).rows) == 2


@pytest.mark.parametrize("handling_s", [0.0, 0.015])
def test_a_sharded_step_is_predicted_from_them(handling_s):
    forecast = forecast_of(sharded_sweep(ranks=(1, 2, 4), handling_s=handling_s))
    assert (forecast.kind, forecast.reason) == ("step", None)
    assert all(abs(step.error) < 1e-3 for step in forecast.explained)
    predicted = next(found for found in forecast.predictions if found.prediction.ranks == 8)
    own = OwnTimes(data_s=0.0, forward_s=0.010 / 8, backward_s=0.020 / 8, optimizer_s=0.004 / 8, handling_s=handling_s)
    step_s = predict_sharded_step(own, UNITS, partial(ring_s, 8), partial(ring_s, 8))
    assert predicted.prediction.throughput == pytest.approx(64 / step_s, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"operations": ()}, "no all_gather was measured for ranks placed as these: add collectives to --workloads"),
        ({"operations": ("all_gather",)}, "no reduce_scatter was measured"),
        ({"sizes": SIZES[:2]}, "needs 3 message sizes, there are 2"),
        ({"donor": False}, "add ddp to --backends"),
        ({"slower": 2.0}, "the step model's throughput is off by"),
    ],
)
def test_what_is_missing_is_said_and_a_law_predicts_instead(changes, text):
    forecast = forecast_of(sharded_sweep(ranks=(1, 2, 4), **changes))
    assert text in forecast.reason
    assert forecast.kind in ("law", None)
