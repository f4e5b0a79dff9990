"""The work of a step and the peak of the device, on real ranks: the count is the model's, whoever carries gradients."""

from __future__ import annotations

import itertools

import pytest

from bench.plugins.backend import Session
from bench.plugins.registry import load_workload
from bench.rank.peak import measure_peak
from bench.rank.roofline import count_memory_traffic, count_step_work, peak_dtype
from harness.store.opening import open_store
from reports.analysis.roofline import DISTURBED
from tests.support.builders import make_case

BATCH, SIZES = 128, (784, 1024, 10)
SHORT = """
backends = ["ddp", "horovod", "dask"]
workloads = ["synthetic"]
ranks = [1, 2]
steps = 5
warmup = 2
own_cost = false
decompose = false
"""


def test_every_backend_s_step_is_counted_alike(harness):
    (harness.folder / "short.toml").write_text(SHORT)
    document = harness.sweep("short.toml", "--batch", str(BATCH))
    layers = [before * after for before, after in itertools.pairwise(SIZES)]
    # Two FLOPs a multiply-add; the backward pass has two products a layer, but the data take no gradient.
    expected = 2 * BATCH * (3 * sum(layers) - layers[0])
    trials = open_store(f"sqlite:///{harness.folder}/.runs/results.sqlite", create=False).trials(document["sweep"])
    assert len(trials) == 6
    for trial in trials:
        assert sum(rank.step_work.flops for rank in trial.ranks) == expected, trial.case.key
        # Every rank holds all weights, gradients and momenta: the least that its step touches.
        assert all(rank.step_work.bytes_moved > 3 * 4 * sum(layers) for rank in trial.ranks)
    for cell in document["cells"]:
        found = cell["roofline"]
        # On a machine that others use as well the peak may be disturbed; then it must be said.
        assert found is not None or cell["roofline_reason"] == DISTURBED, cell["title"]
        assert found is None or (0 < found["mfu"]["value"] <= 1 and found["flops"] == expected), cell["title"]


def test_a_transformer_s_attention_is_counted_and_its_parameters_stay():
    batch, sequence, width, layers, vocabulary = 2, 8, 16, 2, 20
    options = {"model": "transformer", "width": width, "sequence": sequence, "vocabulary": vocabulary, "heads": 2}
    case, session = make_case(ranks=1, batch=batch, workload_options=options), Session()
    work = load_workload("synthetic").build(case, session)
    work.step()
    before = work.snapshot()
    found = count_step_work(work, session)
    linear = 2 * batch * sequence * (layers * 12 * width**2 + width * vocabulary)
    attention = layers * 2 * batch * sequence**2 * 2 * width
    assert found.flops == 3 * (linear + attention)
    assert found.dtypes == ("float32",)
    assert all(bool((now == then).all()) for now, then in zip(work.snapshot(), before, strict=True))


def test_recomputed_activations_are_counted_as_executed_only():
    batch, sequence, width, layers, vocabulary = 2, 8, 16, 2, 20
    options = {"model": "transformer", "width": width, "sequence": sequence, "vocabulary": vocabulary, "heads": 2}
    session = Session()

    def count(**changes):
        case = make_case(ranks=1, batch=batch, workload_options={**options, **changes})
        return count_step_work(load_workload("synthetic").build(case, session), session)

    plain, recomputed = count(), count(recompute="blocks")
    assert plain.executed_flops is None
    assert recomputed.flops == plain.flops
    forward_of_layers = layers * 2 * batch * sequence * (12 * width**2 + 2 * sequence * width)
    # The last product of a block is not needed again: its result is not, and its inputs are what is recomputed.
    last_products = layers * 2 * batch * sequence * 4 * width**2
    assert forward_of_layers - last_products <= recomputed.executed_flops - plain.flops <= forward_of_layers


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_step_is_held_against_the_peak_of_its_products(precision, dtype):
    session = Session()
    options = {"model": "transformer", "width": 16, "sequence": 8, "vocabulary": 20, "heads": 2, "precision": precision}
    case = make_case(ranks=1, batch=8, workload_options=options)
    counted = count_step_work(load_workload("synthetic").build(case, session), session)
    assert counted.product_dtypes == (dtype,)
    assert {dtype, "float32"} <= set(counted.dtypes), "losses and updates stay in float32"
    assert peak_dtype(counted) == dtype
    found = measure_peak(session, dtype)
    assert found.dtype == dtype
    assert found.how.startswith(f"{dtype} product of ")
    assert 1e8 < found.flop_s < 1e14


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_counted_as_it_is_written():
    session = Session()
    case = make_case(ranks=1, batch=8, workload_options={"hidden": 32})
    compiled = make_case(ranks=1, batch=8, workload_options={"hidden": 32, "compile": "default"})
    work = load_workload("synthetic")
    plain = count_step_work(work.build(case, session), session)
    assert count_step_work(work.build(compiled, session), session) == plain


def test_views_move_nothing_and_what_is_written_counts():
    import torch

    matrix, row = torch.ones(4, 8), torch.ones(8)
    for expected, operation in (
        (0, lambda: matrix.reshape(8, 4).t().detach()[1:]),
        (0, lambda: torch.empty(1000)),
        (4 * 32, lambda: torch.zeros(4, 8)),
        (4 * (32 + 32 + 16), lambda: matrix @ matrix.t()),
        (4 * (32 + 8 + 32), lambda: matrix.add_(row.expand(4, 8))),
        (4 * (32 + 32), lambda: torch._foreach_mul_([matrix], 2.0)),
    ):
        with count_memory_traffic() as traffic:
            operation()
        assert traffic.bytes_moved == expected, expected


def test_sparse_gradients_count_as_their_indices_and_values():
    import torch

    gradient = torch.sparse_coo_tensor(torch.tensor([[1, 5]]), torch.ones(2, 8), (1000, 8), check_invariants=True)
    with count_memory_traffic() as traffic:
        gradient.clone()
    one = 2 * 8 + 2 * 8 * 4
    assert traffic.bytes_moved == 2 * one
    table = torch.nn.Embedding(1000, 16, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    with count_memory_traffic() as traffic:
        table(torch.tensor([1, 2, 3])).sum().backward()
        optimizer.step()
    assert traffic.bytes_moved > 0


def test_a_processor_s_peak_is_plausible():
    found = measure_peak(Session())
    assert 1e8 < found.flop_s < 1e14
    assert 1e8 < found.bytes_s < 1e13
    assert "all ranks at once" in found.how
