from __future__ import annotations

import itertools
from collections import Counter

import pytest

from bench.plugins.registry import load_plugins
from bench.telemetry.probes.nvml.timings import POWER_MEAN_S, TABLE, timings_of
from bench.telemetry.sampler import INTERVAL_S
from harness.errors import UsageError
from harness.planning.gpus import idle_gpus_problem
from harness.planning.options import known_options, parse_settings, resolve_options
from harness.planning.placements import Machine, default_ranks
from harness.planning.plan import GPU_WINDOW_S, idle_parts, imprecise_cases, make_plan, shuffled_rounds
from harness.planning.suite import Suite
from reports.analysis.case_titles import case_title, with_batch
from reports.analysis.telemetry_window import MIN_SAMPLES

BACKENDS, WORKLOADS, _ = load_plugins()
KNOWN = known_options(BACKENDS, WORKLOADS, {"local": None, "slurm": None})
TWO_CORES = Machine(cores=2)
FAR = Machine(site="slurm", multi_node=True, cores=None, gpus=None)


class Somewhere:
    """A site as the plan sees it."""

    shares_environment = True
    launchers = ("agent", "mpirun")

    def __init__(self, unavailable_reason, launcher_unavailable_reason=lambda launcher: None):
        self.unavailable_reason = unavailable_reason
        self.launcher_unavailable_reason = launcher_unavailable_reason


def plan(
    machine=TWO_CORES,
    settings=(),
    unavailable_reason=lambda case: None,
    launcher_unavailable_reason=lambda launcher: None,
    **changes,
):
    """The plan where every backend is installed: what is missing here is another test's business."""
    there = {name: _Installed(backend) for name, backend in BACKENDS.items()}
    suite = Suite(**{**changes, "options": resolve_options(parse_settings(settings), KNOWN)})
    return make_plan(suite, machine, there, WORKLOADS, Somewhere(unavailable_reason, launcher_unavailable_reason))


class _Installed:
    """A backend as the plan sees it on a machine that has all it needs."""

    def __init__(self, backend):
        self._backend = backend

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def unavailable_reason(self, case):
        return None


@pytest.mark.parametrize(("cores", "ranks"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4)), (8, (1, 2, 4, 8)), (0, (1,))])
def test_ranks_default_to_powers_of_two_up_to_the_cores(cores, ranks):
    assert default_ranks(cores) == ranks


def test_the_quick_grid():
    found = plan(workloads=("synthetic",), backends=("single", "ddp"))
    assert [(case.backend, case.ranks) for case in found.cases] == [("single", 1), ("ddp", 1), ("ddp", 2)]
    assert [(skip.case.backend, skip.case.ranks) for skip in found.not_applicable] == [("single", 2)]
    assert found.skips == ()


def test_threads_are_the_same_along_a_curve():
    found = plan(machine=Machine(cores=8), workloads=("synthetic",), backends=("ddp",), ranks=(1, 2, 4))
    assert {case.threads for case in found.cases} == {2}


def test_more_threads_than_cores_is_marked_unless_compute_is_emulated():
    measured = plan(workloads=("synthetic",), backends=("ddp",), ranks=(2, 4))
    assert [case.flags for case in measured.cases] == [(), ("oversubscribed",)]
    emulated = plan(settings=["synthetic.model=emulated"], workloads=("synthetic",), backends=("ddp",), ranks=(4,))
    assert [case.flags for case in emulated.cases] == [("emulated_compute",)]


def test_an_option_with_several_values_is_an_axis_and_defaults_leave_no_trace():
    found = plan(settings=["ddp.bucket_cap_mb=1,25"], workloads=("synthetic",), backends=("ddp",), ranks=(2,))
    assert [case.backend_options for case in found.cases] == [{"bucket_cap_mb": 1.0}, {"bucket_cap_mb": 25.0}]


def test_the_batch_is_an_axis_that_titles_name():
    found = plan(batch=(8, 16), workloads=("synthetic", "allreduce"), backends=("ddp",), ranks=(2,))
    assert [(case.workload, case.batch) for case in found.cases] == [
        ("synthetic", 8),
        ("synthetic", 16),
        ("allreduce", 1),
    ]
    values = with_batch(found.cases)
    assert [case_title(case, values(case)) for case in found.cases] == [
        "synthetic · ddp/gloo (batch=8) · 2 ranks · strong",
        "synthetic · ddp/gloo (batch=16) · 2 ranks · strong",
        "allreduce · ddp/gloo · 2 ranks · weak",
    ]


def test_titles_name_values_as_set_takes_them():
    settings = ("ddp.static_graph=true", "ddp.bucket_cap_mb=0.5")
    found = plan(settings=settings, workloads=("synthetic",), backends=("ddp",), ranks=(2,))
    (case,) = found.cases
    assert case_title(case) == "synthetic · ddp/gloo (bucket_cap_mb=0.5, static_graph=true) · 2 ranks · strong"


def test_a_net_is_an_axis_and_none_is_the_default():
    arguments = {"workloads": ("synthetic",), "backends": ("single", "ddp"), "ranks": (1, 2)}
    found = plan(net=("1gbit", "unshaped"), **arguments)
    assert [(case.backend, case.net, case.ranks) for case in found.cases] == [
        (backend, net, ranks)
        for backend in ("single", "ddp")
        for net in ("1gbit", "unshaped")
        for ranks in (1, 2)
        if (backend, ranks) != ("single", 2)
    ]
    assert {case.net for case in plan(**arguments).cases} == {None}


def test_transport_is_an_axis_too():
    found = plan(settings=["horovod.transport=gloo,mpi"], workloads=("mnist",), backends=("horovod",), ranks=(2,))
    assert [case.transport for case in found.cases] == ["gloo", "mpi"]


def test_a_collective_is_weak_whatever_was_asked_and_needs_two_ranks():
    found = plan(workloads=("allreduce",), backends=("ddp",), scaling=("strong", "weak"))
    assert [(case.scaling, case.ranks) for case in found.cases] == [("weak", 2)]
    assert "at least 2 ranks" in found.not_applicable[0].reason


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ([], {"backends": ("ddq",)}, "unknown backend 'ddq'; did you mean 'ddp'?"),
        ([], {"workloads": ("mnits",)}, "unknown workload 'mnits'; did you mean 'mnist'?"),
        (["ddp.bucket_cap=1"], {}, "backend.ddp has no option 'bucket_cap'; did you mean 'bucket_cap_mb'?"),
        (["dpd.bucket_cap_mb=1"], {}, "unknown workload, backend or site 'dpd'; did you mean 'ddp'?"),
        (["ddp.bucket_cap_mb=x"], {}, "option backend.ddp.bucket_cap_mb = x: expected a number"),
        (["ddp.bucket_cap_mb=-1"], {}, "option backend.ddp.bucket_cap_mb = -1: input should be greater than 0"),
        (["mnist.model=cnm"], {}, "option workload.mnist.model = cnm: input should be 'linear', 'mlp' or 'cnn'"),
        (["ddp.transport=mpi"], {}, "option backend.ddp.transport: unknown transport 'mpi'"),
        (["ddp.bucket_cap_mb=1,1.0"], {}, "named twice"),
        (["array_mean.chunk=3"], {"workloads": ("array_mean",)}, "chunk 3 does not divide"),
        ([], {"batch": 7}, "batch 7 does not divide among 2 ranks"),
        ([], {"backends": ("single",), "ranks": (2,)}, "plans nothing to run: single is one rank by definition"),
    ],
)
def test_wrong_input_is_one_line(settings, changes, message):
    with pytest.raises(UsageError) as problem:
        plan(settings=settings, **changes)
    assert message in str(problem.value)
    assert "\n" not in str(problem.value)


def test_what_a_site_cannot_do_is_skipped_with_its_reason():
    found = plan(
        workloads=("synthetic",),
        backends=("ddp",),
        unavailable_reason=lambda case: "no such queue" if case.ranks > 1 else None,
    )
    assert [skip.reason for skip in found.skips] == ["no such queue"]
    assert [case.ranks for case in found.cases] == [1]


def test_cuda_needs_gpus_and_a_cuda_torch():
    lacking = plan(workloads=("synthetic",), backends=("ddp",), device="cuda", ranks=(1, 2), machine=Machine(cores=2))
    assert [(skip.case.ranks, "not a CUDA build" in skip.reason) for skip in lacking.skips] == [(1, True), (2, True)]
    one = Machine(cores=2, gpus=1, cuda_torch=True)
    found = plan(workloads=("synthetic",), backends=("ddp",), ranks=(1, 2), machine=one)
    assert [(case.ranks, case.device, case.transport) for case in found.cases] == [(1, "cuda", "nccl")]
    assert found.skips[0].reason == (
        "2 ranks need 2 GPUs, 1 found; use fewer ranks, let 2 share a GPU (--set site.local.ranks_per_gpu=2 --set "
        "ddp.transport=gloo) or --device cpu"
    )
    none = plan(workloads=("synthetic",), backends=("ddp",), device="cuda", machine=Machine(cores=2, cuda_torch=True))
    assert {skip.reason.partition(":")[0] for skip in none.skips} == {"no GPU was found"}


def test_gpus_that_nobody_refused_and_torch_can_t_use_are_named():
    machine = Machine(cores=2, gpus=1)
    problem = idle_gpus_problem(Suite(name="s"), machine)
    assert problem == "cells run on CPUs: 1 GPU is there, but torch is not a CUDA build; install one, or --device cpu"
    assert "2 GPUs are there" in idle_gpus_problem(Suite(name="s"), Machine(cores=2, gpus=2))
    for suite, other in (
        (Suite(name="s", device="cpu"), machine),
        (Suite(name="s", device="cuda"), machine),
        (Suite(name="s"), TWO_CORES),
        (Suite(name="s"), FAR),
        (Suite(name="s"), Machine(cores=2, gpus=1, cuda_torch=True)),
    ):
        assert idle_gpus_problem(suite, other) is None


SHARED = Machine(cores=2, gpus=1, cuda_torch=True, ranks_per_gpu=2)
OVER_GLOO = ("ddp.transport=gloo", "horovod.transport=gloo")


def test_ranks_share_a_gpu_where_that_is_asked_for_and_are_marked():
    found = plan(workloads=("synthetic",), backends=("single", "ddp", "dask"), machine=SHARED, settings=OVER_GLOO)
    planned = {(case.backend, case.ranks): case for case in found.cases}
    assert list(planned) == [("single", 1), ("ddp", 1), ("ddp", 2), ("dask", 1), ("dask", 2)]
    assert {case.flags for case in found.cases if case.ranks == 2} == {("shared_gpu",)}
    assert {case.flags for case in found.cases if case.ranks == 1} == {()}, "one rank has the GPU for itself"
    two = planned["ddp", 2]
    assert [two.device_of(rank) for rank in range(2)] == ["cuda:0", "cuda:0"]
    assert two.key.endswith("/per-gpu=2/ranks=2")
    assert "2 a GPU" in case_title(two)
    on_cpus = plan(workloads=("synthetic",), backends=("ddp",), device="cpu", machine=SHARED)
    assert {(case.ranks_per_gpu, case.flags) for case in on_cpus.cases} == {(1, ())}


def test_three_ranks_fill_the_gpus_in_order():
    two_gpus = SHARED.model_copy(update={"gpus": 2})
    chosen = {"ranks": (3, 5), "batch": (30,), "settings": OVER_GLOO}
    found = plan(workloads=("synthetic",), backends=("ddp",), machine=two_gpus, **chosen)
    (case,) = found.cases
    assert [case.device_of(rank) for rank in range(3)] == ["cuda:0", "cuda:0", "cuda:1"]
    (skip,) = found.skips
    assert skip.reason.startswith(
        "5 ranks, 2 a GPU, need 3 GPUs, 2 found; use fewer ranks, let 3 share a GPU (--set site"
    )


@pytest.mark.parametrize(
    ("backend", "remedy"),
    [
        ("ddp", "--set ddp.transport=gloo"),
        ("horovod", "--set horovod.transport=gloo"),
        ("fsdp", "--set site.local.ranks_per_gpu=1"),
        ("deepspeed", "--set site.local.ranks_per_gpu=1"),
    ],
)
def test_over_nccl_a_shared_gpu_is_refused_before_anything_starts(backend, remedy):
    problem = f"plans nothing to run: NCCL takes one rank a GPU, not 2: {remedy}"
    with pytest.raises(UsageError, match=problem):
        plan(workloads=("synthetic",), backends=(backend,), ranks=(2,), machine=SHARED)


def test_nothing_to_run_on_a_gpu_says_why():
    one = Machine(cores=2, gpus=1, cuda_torch=True)
    reason = "an allreduce needs at least 2 ranks: --ranks 2; with 1 GPU, 1 rank is the default"
    with pytest.raises(UsageError, match=reason):
        plan(workloads=("allreduce",), backends=("ddp",), device="cuda", machine=one)
    with pytest.raises(UsageError, match="needs at least 2 ranks: --ranks 2; no GPU was found"):
        plan(workloads=("allreduce",), backends=("ddp",), device="cuda", machine=Machine(cores=2, cuda_torch=True))
    with pytest.raises(UsageError, match="needs at least 2 ranks: --ranks 2; torch is not a CUDA build"):
        plan(workloads=("allreduce",), backends=("ddp",), device="cuda", ranks=(1,), machine=Machine(cores=2))


@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize("ranks_per_gpu", [1, 2])
@pytest.mark.parametrize("ranks", [None, (1,), (2,), (4,)])
def test_every_combination_on_a_gpu_runs_or_says_why_not(gpus, ranks_per_gpu, ranks):
    machine = Machine(cores=8, gpus=gpus, cuda_torch=True, ranks_per_gpu=ranks_per_gpu)
    for workload, backend in itertools.product(WORKLOADS, BACKENDS):
        if WORKLOADS[workload].kind == "program" or BACKENDS[backend].starts_programs:
            continue
        error = None
        try:
            found = plan(machine=machine, workloads=(workload,), backends=(backend,), device="cuda", ranks=ranks)
        except UsageError as problem:
            error = str(problem)
        if error is not None:
            assert error.partition("plans nothing to run: ")[2], (workload, backend, error)
            continue
        assert all("\n" not in skip.reason for skip in found.skips)
        assert all(skip.reason for skip in found.skips)
        for case in found.cases:
            assert case.device == "cpu" or case.gpus_on_a_node <= gpus
            shared = case.device == "cuda" and case.ranks > case.gpus_on_a_node
            assert ("shared_gpu" in case.flags) == shared
            assert not (shared and case.transport == "nccl")


def test_a_workload_or_backend_of_which_nothing_runs_is_named():
    found = plan(workloads=("synthetic", "allreduce"), backends=("single", "ddp"), ranks=(1,))
    assert idle_parts(found) == {"allreduce": "an allreduce needs at least 2 ranks: --ranks 2"}
    assert idle_parts(plan(workloads=("synthetic",), backends=("single", "ddp"), ranks=(1, 2))) == {}


def test_a_backend_for_the_cpu_alone_is_no_trouble_on_a_gpu_machine():
    backend = _Installed(BACKENDS["ddp"])
    backend.transports = {"cpu": ("gloo",)}
    there = {"ddp": backend, "single": _Installed(BACKENDS["single"])}
    suite = Suite(backends=("ddp", "single"), workloads=("synthetic",), ranks=(1,))
    found = make_plan(suite, Machine(cores=2, gpus=1, cuda_torch=True), there, WORKLOADS, Somewhere(lambda case: None))
    assert [case.backend for case in found.cases] == ["single"]
    assert len(found.not_applicable) == 1


def test_what_computes_on_the_cpu_alone_is_not_called_cuda():
    machine = Machine(cores=2, gpus=1, cuda_torch=True)
    found = plan(machine=machine, workloads=("array_mean",), backends=("single",), ranks=(1,))
    assert [case.device for case in found.cases] == ["cpu"]


def test_rounds_go_on_for_what_is_not_known_well_enough():
    found = plan(workloads=("synthetic",), backends=("single", "ddp"), ranks=(1, 2))
    narrow, wide, unknown = (case.key for case in found.cases)
    rates = {narrow: [100.0, 100.1, 99.9], wide: [100.0, 120.0, 80.0], unknown: [100.0]}
    assert [case.key for case in imprecise_cases(found, rates, 0.02)] == [wide, unknown]
    assert imprecise_cases(found, rates | {unknown: []}, 10.0) == [], "what never worked is not repeated"


def test_rounds_visit_every_case_once_each_in_a_seeded_order_of_their_own():
    found = plan(workloads=("synthetic", "mnist"), repeats=4)
    visits = list(shuffled_rounds(found, seed=3))
    assert visits == list(shuffled_rounds(found, seed=3))
    counts = Counter((number, case.key) for number, case in visits)
    assert set(counts.values()) == {1}
    assert len(counts) == 4 * len(found.cases)
    orders = {tuple(case.key for number, case in visits if number == wanted) for wanted in range(4)}
    assert len(orders) == 4


def test_nodes_times_ranks_a_node_are_ranks_and_each_width_is_a_curve_of_its_own():
    found = plan(
        machine=FAR, backends=("ddp",), workloads=("synthetic",), nodes=(1, 2), ranks_per_node=(1, 2), threads=1
    )
    assert [(case.ranks, case.nodes, case.ranks_on_a_node) for case in found.cases] == [
        (1, 1, 1),
        (2, 2, 1),
        (2, 1, 2),
        (4, 2, 2),
    ]
    assert len({case.curve for case in found.cases}) == 2
    assert found.cases[1].key.endswith("/site=slurm/per-node=1/ranks=2")


def test_ranks_fill_one_node_before_the_next():
    found = plan(machine=FAR, backends=("ddp",), workloads=("synthetic",), ranks=(1, 2, 4, 8), ranks_per_node=(4,))
    assert [(case.nodes, case.ranks_on_a_node) for case in found.cases] == [(1, 1), (1, 2), (1, 4), (2, 4)]
    assert len({case.curve for case in found.cases}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": (6,), "ranks_per_node": (4,)}, "6 ranks do not fill nodes of 4"),
        ({"ranks": (2,), "nodes": (2,)}, "nodes and ranks both set the rank counts"),
    ],
)
def test_ranks_that_fill_no_nodes_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        plan(machine=FAR, backends=("ddp",), workloads=("synthetic",), **changes)


def test_beyond_this_machine_nothing_is_called_oversubscribed_before_its_cores_are_known():
    far = plan(machine=FAR, backends=("ddp",), workloads=("synthetic",), nodes=(4,))
    assert [(case.threads, case.flags) for case in far.cases] == [(1, ())]
    known = plan(
        machine=FAR.model_copy(update={"cores": 2}),
        backends=("ddp",),
        workloads=("synthetic",),
        nodes=(1, 4),
        ranks_per_node=(2, 4),
        threads=1,
    )
    assert {(case.ranks_on_a_node, "oversubscribed" in case.flags) for case in known.cases} == {(2, False), (4, True)}


def test_the_usual_scaling_of_a_workload_is_its_own():
    both = plan(workloads=("synthetic", "allreduce"), backends=("ddp",), ranks=(1, 2))
    assert {(case.workload, case.scaling) for case in both.cases} == {("synthetic", "strong"), ("allreduce", "weak")}
    assert WORKLOADS["script"].scalings[0] == "weak"


@pytest.mark.parametrize(
    ("changes", "window_s"),
    [
        ({}, 1.0),
        ({"device": "cuda"}, 2.0),
        ({"device": "cuda", "telemetry": "off"}, 1.0),
        ({"device": "cuda", "window_s": 0.5}, 0.5),
        ({"telemetry": "always"}, 1.0),
        ({"telemetry": "replay:h200.jsonl"}, 2.0),
    ],
)
def test_a_window_is_long_enough_for_the_readings_of_the_device(changes, window_s):
    machine = Machine(cores=2, gpus=2, cuda_torch=True)
    cases = plan(machine, **{"device": "cpu", "backends": ("ddp",), "workloads": ("synthetic",), **changes}).cases
    assert {case.window_s for case in cases} == {window_s}


def test_the_default_window_on_gpus_holds_every_reading():
    timings = timings_of("GPU", tuple(TABLE), POWER_MEAN_S, {})
    assert max(timing.needed_window_s(INTERVAL_S, MIN_SAMPLES) for timing in timings) == GPU_WINDOW_S


def test_a_window_of_a_number_of_steps_does_not_adapt():
    suite = {"workloads": ("synthetic",), "backends": ("single",), "adapt_window": True}
    assert {case.adapt_window for case in plan(**suite).cases} == {True}
    assert {case.adapt_window for case in plan(**suite, steps=5).cases} == {False}
