"""Collective operations: nccl-tests' definitions by numbers worked out by hand, and results on real ranks."""

from __future__ import annotations

import pytest

from bench.core.collectives import COLLECTIVES, buffer_elements, bus_factor, message_elements, message_sizes
from bench.plugins.registry import load_plugins
from bench.workloads.collectives.results import expected_result, handed_in
from bench.workloads.collectives.workload import CollectivesOptions
from tests.support.builders import make_case
from tests.support.collective_ranks import SPOILT, run_collectives

BACKENDS, WORKLOADS, _ = load_plugins()


@pytest.mark.parametrize(
    ("operation", "two", "four"),
    [
        ("all_reduce", 1.0, 1.5),
        ("all_gather", 0.5, 0.75),
        ("reduce_scatter", 0.5, 0.75),
        ("all_to_all", 0.5, 0.75),
        ("broadcast", 1.0, 1.0),
        ("send_recv", 1.0, 1.0),
    ],
)
def test_bus_bandwidth_is_algorithm_bandwidth_times_nccl_tests_factor(operation, two, four):
    assert (bus_factor(operation, 1), bus_factor(operation, 2), bus_factor(operation, 4)) == (0.0, two, four)


def test_sizes_grow_by_the_factor_and_end_with_the_end():
    assert message_sizes(8, 128, 4) == (8, 32, 128)
    assert message_sizes(8, 100, 4) == (8, 32, 100)
    assert message_sizes(64, 64, 2) == (64,)


@pytest.mark.parametrize(
    ("operation", "message_bytes", "ranks", "elements", "sent", "received"),
    [
        ("all_reduce", 1024, 3, 256, 256, 256),
        ("broadcast", 1024, 3, 256, 256, 256),
        ("send_recv", 1024, 3, 256, 256, 256),
        # 256 elements are no multiple of 3 ranks: 255 are.
        ("all_gather", 1024, 3, 255, 85, 255),
        ("reduce_scatter", 1024, 3, 255, 255, 85),
        ("all_to_all", 1024, 3, 255, 255, 255),
        # A rank's part is never empty.
        ("all_gather", 8, 4, 4, 1, 4),
    ],
)
def test_a_size_is_that_of_the_larger_buffer(operation, message_bytes, ranks, elements, sent, received):
    assert message_elements(operation, message_bytes, 4, ranks) == elements
    assert buffer_elements(operation, elements, ranks) == (sent, received)


def test_sizes_that_are_rounded_to_the_same_one_are_timed_once():
    options = CollectivesOptions(operation="all_to_all", begin=8, end=64, factor=2)
    assert options.elements(4) == (4, 8, 16)


def reason(backend="ddp", transport="gloo", ranks=2, backend_options=None, **options):
    case = make_case(
        workload="collectives",
        backend=backend,
        transport=transport,
        ranks=ranks,
        scaling="weak",
        batch=1,
        workload_options=options,
        backend_options=backend_options or {},
    )
    return WORKLOADS["collectives"].unsupported_reason(case)


@pytest.mark.parametrize("operation", COLLECTIVES)
def test_torch_has_all_operations_each_as_its_library_does_it(operation):
    assert reason(operation=operation) is None
    assert reason("fsdp", operation=operation) is None
    assert reason("dask", "gloo", operation=operation) is None


SHARDED = {"backend": "dask", "transport": "tasks", "ranks": 4, "backend_options": {"exchange": "sharded"}}


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ({"backend": "horovod", "operation": "send_recv"}, "Horovod has no transfer"),
        ({"backend": "horovod", "operation": "all_gather", "in_place": True}, "has no result in place"),
        ({"backend": "horovod", "datatype": "bfloat16"}, "no bfloat16"),
        ({"backend": "dask", "transport": "tasks", "operation": "broadcast"}, "to all ranks"),
        (SHARDED | {"operation": "all_gather"}, "dask.exchange=direct"),
        ({"operation": "all_reduce", "in_place": False}, "has no result out of place"),
        ({"operation": "all_to_all", "in_place": True}, "has no result in place"),
        ({"ranks": 1}, "at least 2 ranks"),
        ({"datatype": "bfloat16", "ranks": 65}, "not exact in bfloat16"),
    ],
)
def test_what_a_backend_does_not_have_is_said_with_the_reason(case, text):
    assert text in (reason(**case) or "")


def test_what_it_has_is_not_refused():
    assert reason("horovod", operation="all_gather") is None
    assert reason("horovod", operation="broadcast", in_place=False) is None
    assert reason("dask", "tasks", operation="all_gather") is None
    assert reason("dask", "tasks", 4, {"exchange": "direct"}, operation="all_gather") is None
    assert reason(datatype="bfloat16", ranks=65, check=False) is None
    assert reason(datatype="bfloat16", ranks=65, operation="all_gather") is None


SMALL = {"begin": 24, "end": 1536, "factor": 8}
PLANS = [
    *({**SMALL, "operation": operation} for operation in COLLECTIVES),
    {**SMALL, "operation": "all_gather", "in_place": True},
    {**SMALL, "operation": "reduce_scatter", "in_place": True},
    *({**SMALL, "datatype": datatype} for datatype in ("float64", "float16", "bfloat16", "int32", "int64")),
]


@pytest.mark.frameworks
def test_each_rank_gets_what_a_single_process_says_it_must():
    ranks = 3
    for found in run_collectives(ranks, PLANS):
        for plan, messages in zip(PLANS, found, strict=True):
            assert not isinstance(messages, str), messages
            options = CollectivesOptions(**plan)
            element_bytes = int(options.datatype.lstrip("bfloatin")) // 8
            sizes = [elements * element_bytes for elements in options.elements(ranks)]
            assert [message["message_bytes"] for message in messages] == sizes
            assert {message["operation"] for message in messages} == {options.operation}
            own_way = options.operation in ("all_reduce", "broadcast") if options.in_place is None else True
            assert {message["in_place"] for message in messages} == {own_way}


@pytest.mark.frameworks
def test_a_wrong_element_is_named_on_every_rank_with_its_operation_and_size():
    plans = [{**SMALL, "operation": operation, SPOILT: True} for operation in COLLECTIVES]
    for found in run_collectives(2, plans):
        for operation, message in zip(COLLECTIVES, found, strict=True):
            assert message.startswith(f"{operation} of 24 bytes: 1 of ")
            assert message.endswith("elements of the result are wrong on rank 1")


@pytest.mark.frameworks
def test_elements_that_are_handed_in_differ_between_neighbours_and_their_sums_are_exact():
    import torch

    first, second = (handed_in(rank, 0, 100, torch.float32) for rank in (0, 1))
    assert not (first == second).any()
    assert not (first[1:] == first[:-1]).any()
    assert expected_result("all_reduce", 0, 2, 5, torch.float32).tolist() == [3.0, 5.0, 2.0, 4.0, 6.0]
    assert expected_result("reduce_scatter", 1, 2, 4, torch.float32).tolist() == [2.0, 4.0]
    assert expected_result("all_to_all", 1, 2, 4, torch.float32).tolist() == [2.0, 3.0, 0.0, 1.0]
    assert expected_result("all_gather", 0, 2, 4, torch.float32).tolist() == [0.0, 1.0, 3.0, 4.0]
    assert expected_result("send_recv", 0, 2, 2, torch.float32).tolist() == [3.0, 4.0]
    assert expected_result("broadcast", 1, 2, 2, torch.float32).tolist() == [0.0, 1.0]
