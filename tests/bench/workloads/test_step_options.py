"""The options of a step on a real exchange between threads: each is proven, and a mistake in one is caught."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bench.core.same_work import Reference
from bench.plugins.registry import load_backend
from bench.plugins.workload import Workload
from bench.rank.verify import reference_case
from bench.workloads.mnist.workload import WORKLOAD as MNIST
from bench.workloads.step.options import StepOptions
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from harness.planning.options import option_combinations
from harness.planning.placements import Machine
from harness.planning.plan import make_plan
from harness.planning.suite import Suite
from harness.sites.local.site import LocalSite
from reports.analysis.same_work import judge_same_work
from tests.support.builders import make_case, make_proof, make_record

LANGUAGE_MODEL = {"model": "transformer", "width": 32, "heads": 2, "layers": 2, "sequence": 8, "vocabulary": 50}
IMAGES = {"model": "convnet", "channels": 8, "image": 8}


def case_of(ranks=2, batch=12, device="cpu", **options):
    return make_case(ranks=ranks, batch=batch, device=device, workload_options=options)


# What rules a combination out


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (case_of(accumulate=5), "accumulate=5 does not divide the 6 samples of a rank"),
        (case_of(precision="tf32"), "which a CPU lacks"),
        (case_of(precision="tf32", device="cuda"), None),
        (case_of(cuda_graph=True), "needs --device cuda"),
        (case_of(cuda_graph=True, device="cuda"), None),
        (case_of(compile="reduce-overhead"), "a CPU lacks"),
        (case_of(compile="reduce-overhead", cuda_graph=True, device="cuda"), "captures its own"),
        (case_of(recompute="blocks", cuda_graph=True, device="cuda"), "can't capture recompute=blocks"),
        (case_of(channels_last=True), "model=mlp has no images"),
        (case_of(channels_last=True, **IMAGES), None),
        (case_of(recompute="blocks", model="toy"), "has no blocks"),
        (case_of(precision="bf16", model="emulated"), "is a wait"),
        (case_of(unit="tokens"), "model=mlp has no tokens"),
        (case_of(unit="tokens", **LANGUAGE_MODEL), None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_makes_no_sense_has_a_reason(case, reason):
    found = SYNTHETIC.unsupported_reason(case)
    assert found is None if reason is None else reason in found


def test_a_workload_s_own_reasons_come_beside_those_of_all():
    def reason(**options):
        return MNIST.unsupported_reason(make_case(workload="mnist", batch=12, workload_options=options))

    assert "model=linear has no convolutions" in reason(channels_last=True)
    assert "does not divide" in reason(model="cnn", channels_last=True, accumulate=5)


def test_a_backend_names_the_execution_that_it_can_t_take():
    suite = Suite(
        workloads=("synthetic",),
        backends=("ddp", "fsdp", "horovod"),
        ranks=(2,),
        options={"workload.synthetic": {"model": ("convnet",), "channels_last": (False, True)}},
    )
    backends = {name: load_backend(name) for name in suite.backends}
    machine = Machine(cores=2, gpus=0, cuda_torch=False)
    found = make_plan(suite, machine, backends, {"synthetic": SYNTHETIC}, LocalSite())
    refused = {skip.case.backend: skip.reason for skip in found.not_applicable}
    assert set(refused) == {"fsdp", "horovod"}
    assert refused["fsdp"] == "fsdp does not take channels_last=true: fully_shard takes contiguous parameters only"
    kept = [case.workload_options for case in (*found.cases, *(skip.case for skip in found.skips))]
    assert {"model": "convnet"} in kept


def test_two_casts_of_one_parameter_are_refused():
    case = make_case(backend="fsdp", backend_options={"param_dtype": "bf16"}, workload_options={"precision": "fp16"})
    assert "cast to two types" in load_backend("fsdp").unsupported_reason(case)


def test_compiling_needs_a_compiler(monkeypatch):
    case = case_of(compile="default")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "there is no no-such-compiler" in SYNTHETIC.unavailable_reason(case)
    assert SYNTHETIC.unavailable_reason(case_of()) is None


def test_stored_cases_with_autocast_keep_their_key_and_mean_the_same():
    combinations = option_combinations("workload.synthetic", SYNTHETIC.options, {"autocast": ("off", "bf16")})
    assert combinations == [{}, {"autocast": "bf16"}]
    assert make_case(workload_options=combinations[1]).curve.startswith("synthetic[autocast=bf16]/")
    assert StepOptions(autocast="bf16").computed_in == StepOptions(precision="bf16").computed_in == "bf16"
    with pytest.raises(ValidationError, match="older name"):
        StepOptions(autocast="bf16", precision="fp16")


def test_the_reference_executes_what_is_written_whatever_the_defaults_are():
    class Compiled(Workload):
        options = type("Options", (StepOptions,), {"__annotations__": {"compile": str}, "compile": "default"})

    case = case_of(precision="bf16", recompute="blocks")
    options = Compiled.options(**reference_case(case, Compiled).workload_options)
    assert (options.compile, options.recompute, options.cuda_graph) == ("none", "none", False)
    assert options.precision == "bf16", "it computes what the ranks compute"


def test_steps_that_updated_nothing_prove_nothing():
    proof = make_proof(0, 1)
    for overflows, verdict in ((0, "same"), (1, "same"), (2, "unproven")):
        reference = Reference(**{**proof.reference.model_dump(), "overflows": overflows})
        found = judge_same_work([make_record(proof=proof.model_copy(update={"reference": reference}))])
        assert found.verdict == verdict
    assert "updated nothing" in found.reason


# What a step does


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("options", "arithmetic"),
    [
        ({"precision": "bf16"}, "bfloat16"),
        ({"precision": "fp16"}, "float16"),
        ({"precision": "fp16", "clip": 0.1, "accumulate": 2}, "float16"),
        ({"recompute": "blocks"}, None),
        ({"recompute": "blocks", "precision": "bf16", "dropout": 0.1, "accumulate": 3}, "bfloat16"),
        ({**IMAGES, "channels_last": True}, None),
        ({**IMAGES, "channels_last": True, "precision": "bf16", "recompute": "blocks"}, "bfloat16"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_each_option_does_the_same_work(options, arithmetic):
    from tests.support.thread_ranks import prove

    found = prove(SYNTHETIC, case_of(**{**LANGUAGE_MODEL, "optimizer": "adamw", **options}))
    assert (found.verdict, found.reason) == ("same", None)
    assert found.deviation < 1e-4, "a rank's batch is rounded alike in the reference"
    assert (f"rounding of {arithmetic}" in found.label) == (arithmetic is not None)
    assert 0 < found.rounding < 0.05, "it was compared with something"


class Altered(Workload):
    """A synthetic workload whose ranks, or whose reference, are changed after they were built."""

    name, summary, options = "altered", "", SYNTHETIC.options

    def __init__(self, change, *, of_reference=False):
        self.change, self.of_reference = change, of_reference

    def build(self, case, session):
        from bench.plugins.backend import Session

        work = SYNTHETIC.build(case, session)
        if (type(session) is Session) == self.of_reference:
            self.change(work)
        return work


def clip_while_scaled(work):
    finish = work.scaler.finish

    def clip_first(adjust_gradients):
        adjust_gradients()
        finish(lambda: None)

    work.scaler.finish = clip_first


def add_without_dividing(work):
    scaled = work.scaler.scaled
    work.scaler.scaled = lambda loss: scaled(loss * work.accumulate)


def leave_out_autocast(work):
    work.options = work.options.model_copy(update={"precision": "float32"})


def compute_something_else(work):
    forward = work.model.forward
    work.model.forward = lambda inputs: 1.01 * forward(inputs)


MISTAKES = {
    "clipped while scaled": (Altered(clip_while_scaled), {"precision": "fp16", "clip": 0.1}),
    "not divided": (Altered(add_without_dividing), {"precision": "fp16", "accumulate": 2}),
    "no autocast in the reference": (Altered(leave_out_autocast, of_reference=True), {"precision": "bf16"}),
    "no autocast in the ranks": (Altered(leave_out_autocast), {"precision": "fp16"}),
    "a wrong compiler": (Altered(compute_something_else), {}),
}


@pytest.mark.frameworks
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_step_is_caught(mistake):
    from tests.support.thread_ranks import prove

    workload, options = MISTAKES[mistake]
    case = case_of(**LANGUAGE_MODEL, optimizer="adamw", **options)
    assert prove(SYNTHETIC, case).verdict == "same"
    found = prove(workload, case)
    assert found.verdict == "different"
    assert found.reason.startswith(("gradient of", "loss of"))


@pytest.mark.frameworks
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (1.1, "different")])
def test_a_compiler_may_leave_out_roundings_but_not_compute_something_else(factor, verdict):
    from tests.support.thread_ranks import prove

    def fuse(work):
        leave_out_autocast(work)
        forward = work.model.forward
        work.model.forward = lambda inputs: factor * forward(inputs)

    class Compiled(Altered):
        """Its ranks compute as a compiler may that rounds nothing to bfloat16."""

        def build(self, case, session):
            work = super().build(case, session)
            work.__class__ = type("Fused", (type(work),), {"rounds_elsewhere": True})
            return work

    case = case_of(**LANGUAGE_MODEL, precision="bf16", accumulate=2)
    assert prove(Altered(fuse), case, steps=4).verdict == "different", "the ranks do not say why they round nothing"
    assert prove(Compiled(fuse), case, steps=4).verdict == verdict


@pytest.mark.frameworks
def test_an_overflow_is_skipped_by_all_ranks_and_the_next_step_is_compared():
    from tests.support.thread_ranks import prove

    def enlarge(work):
        loss_function = work.loss_function
        work.loss_function = lambda outputs, targets: 4096 * loss_function(outputs, targets)

    class Enlarged(Altered):
        def build(self, case, session):
            work = SYNTHETIC.build(case, session)
            enlarge(work)
            return work

    case = case_of(model="toy", precision="fp16")
    skipped = prove(Enlarged(enlarge), case, steps=2)
    assert (skipped.verdict, skipped.deviation) == ("unproven", None)
    assert "scaled gradient" in skipped.reason
    found = prove(Enlarged(enlarge), case, steps=14)
    assert (found.verdict, found.reason) == ("same", None)
    assert "verified steps overflowed and updated nothing" in found.label


@pytest.mark.frameworks
def test_a_scaled_step_s_state_is_restored_and_its_skips_are_told():
    import torch

    from bench.plugins.backend import Session

    work = SYNTHETIC.build(case_of(ranks=1, precision="fp16", model="toy"), Session())
    work.step()
    before, parameters = work.loss_scale, work.snapshot()
    saved = work.save()
    work.loss_function = lambda outputs, targets: torch.full((), torch.inf) * outputs.mean()
    work.step()
    assert work.loss_scale == before / 2
    readings = {reading.name: reading.value for reading in work.finish()[0]}
    assert readings == {"loss_scale": before / 2, "skipped_updates": 1}
    assert all(map(torch.equal, work.snapshot(), parameters)), "an overflow updates nothing"
    work.restore(saved)
    assert work.loss_scale == before
    assert {reading.name: reading.value for reading in work.finish()[0]}["skipped_updates"] == 0


@pytest.mark.frameworks
def test_blocks_are_the_members_of_the_outermost_lists_else_the_children():
    from torch import nn

    from bench.rank.blocks import blocks_of, innermost, recomputed_blocks

    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    layers = nn.ModuleList([inner, nn.Linear(2, 2)])
    outer = nn.Sequential(
        nn.Embedding(4, 2), nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1), 2, enable_nested_tensor=False)
    )
    assert recomputed_blocks(outer) == list(outer[1].layers)
    assert recomputed_blocks(inner) == [inner[0]], "what has no parameters is not worth it"
    assert set(innermost(blocks_of(outer))) == {outer[0], *outer[1].layers}
    assert recomputed_blocks(nn.Linear(2, 2)) == []
    nested = nn.ModuleList([nn.ModuleList([layers[1]])])
    assert recomputed_blocks(nested) == [layers[1]]


@pytest.mark.frameworks
@pytest.mark.parametrize("option", ["channels_last", "recompute"])
def test_a_model_of_one_s_own_that_lacks_what_an_option_changes_is_named(option):
    import torch

    from bench.plugins.backend import Session
    from bench.workloads.training import Training

    options = StepOptions(**{option: True if option == "channels_last" else "blocks"})
    with pytest.raises(ValueError, match=f"{option}.*the model has no"):
        Training(Session(), torch.nn.Linear(2, 2), torch.nn.MSELoss(), None, 8, options=options)


@pytest.mark.frameworks
def test_a_module_of_torch_s_own_is_compiled_too_and_computes_as_written_where_that_is_asked_for():
    import torch
    from torch import nn

    from bench.workloads.step.execution import ReplacedForward, _as_own_frame

    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    written, replaced = model.forward, ReplacedForward()
    replaced.replace(model, torch.compile(_as_own_frame(model.forward), backend=count))
    model(torch.ones(1, 2))
    assert len(graphs) == 1
    with replaced.switched_off():
        assert model.forward == written
        model(torch.ones(3, 2))
    assert len(graphs) == 1
    assert model.forward != written


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "options",
    [{"precision": "tf32"}, {"precision": "fp16"}, {"cuda_graph": True}, {"compile": "reduce-overhead"}],
    ids=lambda options: "-".join(options),
)
def test_on_a_gpu_each_option_does_the_same_work(options):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from bench.plugins.backend import FLOAT32_TOLERANCE, Session
    from bench.rank.training_proof import prove_training

    case = case_of(ranks=1, device="cuda", **LANGUAGE_MODEL, **options)

    def reference():
        return SYNTHETIC.build(reference_case(case, SYNTHETIC), Session(device="cuda:0"))

    proof = prove_training(SYNTHETIC.build(case, Session(device="cuda:0")), reference, 3, FLOAT32_TOLERANCE)
    found = judge_same_work([make_record(proof=proof, final_digest=proof.digest)])
    assert (found.verdict, found.reason) == ("same", None)
