"""A step that is captured and replayed: by a capture that simulates a device's, and takes the steps on the CPU."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from bench.backends.dask.backend import BACKEND as DASK
from bench.backends.ddp import BACKEND as DDP
from bench.backends.horovod import BACKEND as HOROVOD
from bench.core.step_measures import PhaseTimes, QueuedSteps
from bench.plugins.backend import FLOAT32_TOLERANCE, Session
from reports.analysis.bottleneck import COMPUTE, HOST_BOUND
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.same_work import judge_same_work
from reports.analysis.step_prediction import step_model_data
from tests.support.builders import make_case, make_record, make_trial

needs_torch = pytest.mark.frameworks


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transport": "nccl"}, None),
        ({"transport": "gloo"}, "gloo's is on the host: --set ddp.transport=nccl"),
        ({"transport": "nccl", "backend_options": {"compression": "fp16"}}, "ddp.compression"),
        ({"transport": "nccl", "backend_options": {"optimizer_sharding": "zero"}}, "ddp.optimizer_sharding=zero"),
        ({"transport": "nccl", "backend_options": {"find_unused_parameters": True}}, "ddp.find_unused_parameters"),
    ],
)
def test_ddp_captures_what_nccl_exchanges_on_the_device(changes, reason):
    case = make_case(device="cuda", workload_options={"cuda_graph": True}, **changes)
    found = DDP.unsupported_reason(case)
    assert found is None if reason is None else reason in found
    assert DDP.unsupported_reason(case.model_copy(update={"workload_options": {}})) is None


def test_backends_that_exchange_on_the_host_refuse_a_graph():
    assert all("cuda_graph" in backend.unsupported_options for backend in (DASK, HOROVOD))


class SimulatedCapture:
    """A capture that notes what is done on its stream, and replays a step by taking it anew.

    As on a device, capturing computes nothing, and a replay writes into the memory of what was captured.
    """

    def __init__(self, model_of):
        self.model_of, self.events, self.on_stream = model_of, [], False

    @contextmanager
    def on_side_stream(self):
        self.on_stream = True
        yield
        self.on_stream = False

    def record(self, work):
        import torch

        model = self.model_of()
        assert all(parameter.grad is None for parameter in model.parameters())
        before = [tensor.detach().clone() for tensor in model.parameters()]
        made = work()
        self.events.append("captured")
        with torch.no_grad():
            for tensor, value in zip(model.parameters(), before, strict=True):
                tensor.copy_(value)

        def replay():
            self.events.append("replayed")
            for memory, value in zip(made, work(), strict=True):
                memory.data.copy_(value.data)

        return made, replay


def training(session=None, optimizer="sgd", cuda_graph=True, **settings):
    """A small model that trains on a pool of four batches of six samples, and the simulated capture."""
    import torch
    from torch import nn

    from bench.workloads.step.optimizers import chosen_optimizer
    from bench.workloads.step.options import StepOptions
    from bench.workloads.synthetic import PoolFeed
    from bench.workloads.training import Training

    torch.manual_seed(3)
    session = session or Session()
    layers = [nn.Linear(5, 7), nn.ReLU(), nn.Dropout(settings.pop("dropout", 0.0)), nn.Linear(7, 3)]
    model = nn.Sequential(*layers)
    feed = PoolFeed(torch.randn(24, 5), torch.randint(0, 3, (24,)), 6, session)
    capture = session.capture = SimulatedCapture(lambda: model)
    schedule = settings.pop("make_schedule", None)

    def make_optimizer(parameters):
        capture.optimizer = chosen_optimizer(optimizer, None, parameters)
        take_step = capture.optimizer.step

        def step(*arguments):
            capture.events.append("side update" if capture.on_stream else "update")
            return take_step(*arguments)

        if schedule is None:
            capture.optimizer.step = step
        return capture.optimizer

    work = Training(
        session,
        model,
        nn.CrossEntropyLoss(),
        feed,
        6,
        options=StepOptions(cuda_graph=cuda_graph, **settings),
        make_optimizer=make_optimizer,
        make_schedule=schedule,
        make_capture=lambda: capture,
    )
    return work, capture


@needs_torch
def test_the_step_is_warmed_up_on_the_side_stream_then_captured_and_nothing_has_changed():
    import torch

    work, capture = training()
    written, _ = training(cuda_graph=False)
    assert capture.events == ["side update"] * 11 + ["update", "captured"]
    assert [name for name, _ in work.parts()] == ["data", "graph"]
    for mine, other in zip(work.snapshot(), written.snapshot(), strict=True):
        assert torch.equal(mine, other)
    assert all(not state["momentum_buffer"].any() for state in capture.optimizer.state.values())


@needs_torch
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip": 0.01},
        {"accumulate": 3},
        {"optimizer": "adam"},
        {"make_schedule": True},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_replayed_steps_are_those_that_are_written(settings):
    import torch

    if "make_schedule" in settings:
        settings = {"make_schedule": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}
    (work, capture), (written, _) = training(**settings), training(cuda_graph=False, **settings)
    for _ in range(6):
        work.step()
        written.step()
        assert float(work.last_result()) == pytest.approx(float(written.last_result()), rel=1e-6)
        assert work.last_samples() == written.last_samples()
    assert capture.events.count("replayed") == 6
    torch.testing.assert_close(work.snapshot(), written.snapshot(), rtol=1e-5, atol=1e-7)


@needs_torch
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_restored_is_restored_in_the_memory_of_the_graph(optimizer):
    import torch

    work, capture = training(optimizer=optimizer)
    work.step()
    where = [tensor.data_ptr() for state in capture.optimizer.state.values() for tensor in state.values()]
    saved, losses = work.save(), []
    for _ in range(2):
        work.feed._feed.batches_taken = 1
        for _ in range(3):
            work.step()
        losses.append(float(work.last_result()))
        work.restore(saved)
    assert losses[0] == losses[1]
    now = [tensor.data_ptr() for state in capture.optimizer.state.values() for tensor in state.values()]
    assert (now == where) == (optimizer == "sgd"), "Adam on a CPU is not capturable: its update is not in the graph"
    with work.one_by_one():
        assert [name for name, _ in work.parts()] == ["data", "forward", "backward", "optimizer"]
        work.step()
    gradients = [parameter.grad for parameter in work.model.parameters()]
    work.step()
    assert not any(
        torch.equal(*pair) for pair in zip(gradients, [p.grad for p in work.model.parameters()], strict=True)
    )


@needs_torch
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_verified_steps_are_replayed_unless_the_model_is_random(dropout):
    from bench.rank.training_proof import prove_training

    work, capture = training(dropout=dropout)
    proof = prove_training(work, lambda: training(cuda_graph=False, dropout=dropout)[0], 3, FLOAT32_TOLERANCE)
    found = judge_same_work([make_record(proof=proof, final_digest=proof.digest)])
    assert (found.verdict, found.reason) == ("same", None)
    assert capture.events.count("replayed") == (0 if dropout else 3)
    assert proof.reference.evaluation_mode == bool(dropout)


@needs_torch
def test_a_wrong_replay_is_found_by_the_verified_steps():
    from bench.rank.training_proof import prove_training

    work, _ = training()
    work.graph.load = lambda batch: None
    proof = prove_training(work, lambda: training(cuda_graph=False)[0], 3, FLOAT32_TOLERANCE)
    assert judge_same_work([make_record(proof=proof, final_digest=proof.digest)]).verdict == "different"


class ParallelSession(Session):
    """Notes where a model is made parallel, as DDP's constructor chooses the stream on which gradients are added up."""

    def parallelize(self, model):
        self.capture.events.append("parallel on the stream" if self.capture.on_stream else "parallel elsewhere")
        return model


@needs_torch
def test_the_model_is_made_parallel_on_the_stream_of_the_capture():
    _, capture = training(ParallelSession())
    assert capture.events[0] == "parallel on the stream"
    _, not_captured = training(ParallelSession(), cuda_graph=False)
    assert not_captured.events == ["parallel elsewhere"]


@needs_torch
def test_several_ranks_replay_their_exchange_and_are_not_decomposed():
    session = Session(world=2)
    training(session)
    assert "can't leave out its exchange" in session.no_sync_reason
    assert Session.no_sync_reason is None


@needs_torch
def test_what_can_not_be_captured_is_named():
    import torch

    from bench.workloads.step.graphed_step import CaptureError, GraphedStep, holds_update

    work, _ = training()
    with pytest.raises(ValueError, match=r"a batch of shape \(2, 5\) after one of \(6, 5\)"):
        work.graph.load((torch.zeros(2, 5), torch.zeros(6)))
    with pytest.raises(CaptureError, match="a batch has a str beside its tensors"):
        GraphedStep(None, None, (torch.zeros(2), "a name"), work.model)

    def no_capture(step):
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    capture = SimulatedCapture(lambda: work.model)
    capture.record = no_capture
    with pytest.raises(CaptureError, match="can't be captured: CUDA error: operation not permitted when stream is"):
        GraphedStep(capture, lambda batch: [], torch.zeros(1), work.model)
    weights = [torch.zeros(1, requires_grad=True)]
    held = {
        torch.optim.SGD(weights, 0.1, momentum=0.9): True,
        torch.optim.SGD(weights, 0.1, momentum=0.9, dampening=0.5): False,
        torch.optim.Adam(weights): False,
        torch.optim.Adam(weights, capturable=True): True,
        torch.optim.NAdam(weights, capturable=True): False,
        torch.optim.Adagrad(weights): False,
    }
    assert [holds_update(optimizer) for optimizer in held] == list(held.values())


def test_the_report_takes_a_graph_for_compute_whose_parts_are_not_known():
    case = make_case(ranks=1, device="cuda", workload_options={"cuda_graph": True})
    phases = PhaseTimes(together_s=(1e-3,), alone_s={"data": (1e-4,), "graph": (8e-4,)}, digest="d")
    queued = (QueuedSteps(exchanged=True, steps=4, queued_s=(6e-4,), stepped_s=(1e-3,)),)
    (cell,) = make_cells([case], {}, [make_trial(case, ranks=(make_record(phases=phases, queued_steps=queued),))], {})
    assert cell.decomposition.parts_s.keys() == {"data", "unattributed", "waiting", "exposed"}
    assert cell.decomposition.parts_s["unattributed"].value == pytest.approx(9e-4)
    (why,) = analyse_cells([cell]).bottlenecks
    assert (why.limited_by, why.shares[COMPUTE]) == (HOST_BOUND, pytest.approx(0.9))
    assert "cuda_graph=true is set" in cell.launch_bound.answer
    with_gradients = cell.model_copy(update={"gradients": object()})
    assert "CUDA graph can't be told apart" in step_model_data([with_gradients], 1)
