"""What saving costs, for states that are whole, sharded by FSDP, or sharded by a ZeroRedundancyOptimizer."""

from __future__ import annotations

import pytest

from bench.backends.ddp import DdpOptions, DdpSession
from bench.backends.fsdp import FsdpOptions, FsdpSession
from bench.core.records import CHECKPOINT_READINGS
from bench.plugins.backend import Session
from bench.rank.checkpoint import SAVERS, CheckpointFailure, measure_checkpoint, space_problem
from bench.workloads.synthetic import WORKLOAD as SYNTHETIC
from tests.support.builders import make_case
from tests.support.thread_ranks import ThreadGroup, ThreadSession

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:torch.distributed:UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def process_group(tmp_path_factory):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    meeting = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


SESSIONS = {
    "single": Session,
    "ddp": lambda: DdpSession(0, 1, "cpu", DdpOptions(), "gloo"),
    "zero": lambda: DdpSession(0, 1, "cpu", DdpOptions(optimizer_sharding="zero"), "gloo"),
    "fsdp": lambda: FsdpSession(0, 1, "cpu", FsdpOptions(), "gloo"),
}
STATE_BYTES = 3 * 4 * (784 * 16 + 16 + 16 * 10 + 10)
"""A float32 parameter and both moments of Adam."""


def built(session, way):
    case = make_case(
        ranks=session.world, batch=8, workload_options={"hidden": 16, "optimizer": "adam", "checkpoint": way}
    )
    work = SYNTHETIC.build(case, session)
    work.step()
    return work


@pytest.mark.parametrize("way", SAVERS)
@pytest.mark.parametrize("session", SESSIONS)
def test_everything_is_saved_and_nothing_is_left(session, way, tmp_path):
    made = SESSIONS[session]()
    work = built(made, way)
    readings = {reading.name: reading for reading in measure_checkpoint(work, made, 0.001, tmp_path)}
    assert {name: reading.unit for name, reading in readings.items()} == CHECKPOINT_READINGS
    assert list(tmp_path.iterdir()) == []
    values = {name: reading.value for name, reading in readings.items()}
    assert STATE_BYTES < values["checkpoint_size"] < 1.5 * STATE_BYTES + 20_000
    assert values["checkpoint_stall_per_gb"] == pytest.approx(
        values["checkpoint_stall"] / values["checkpoint_size"] * 1e9
    )
    assert values["checkpoint_rate"] == pytest.approx(values["checkpoint_size"] / values["checkpoint_write"])
    assert values["checkpoint_write"] > 0


@pytest.mark.parametrize("session", SESSIONS)
def test_a_blocking_checkpoint_holds_the_parameters_and_the_optimizer_s_state(session, tmp_path):
    import torch

    made = SESSIONS[session]()
    work = built(made, "blocking")
    SAVERS["blocking"](work, made, 0.001, iter(range(9)).__next__).save(tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    tensors = [*saved["model"].values()]
    assert all(torch.equal(*pair) for pair in zip(tensors, work.snapshot(), strict=True))
    assert len(saved["optimizer"]["state"]) == len(tensors)
    assert all({"exp_avg", "exp_avg_sq"} <= entry.keys() for entry in saved["optimizer"]["state"].values())


def test_ranks_without_a_process_group_save_alone_or_say_why_not(tmp_path):
    session = ThreadSession(0, ThreadGroup(2))
    (reason,) = {reading.reason for reading in measure_checkpoint_of_two("distributed", tmp_path)}
    assert (
        reason == "torch.distributed.checkpoint needs a process group of torch.distributed, and these ranks form none"
    )
    assert session.checkpoint_group() is None
    sizes = [
        reading.value for reading in measure_checkpoint_of_two("async", tmp_path) if reading.name == "checkpoint_size"
    ]
    assert len(sizes) == 2
    assert sizes[0] == sizes[1] > STATE_BYTES, "rank 0 writes it all"


def measure_checkpoint_of_two(way, folder):
    from concurrent.futures import ThreadPoolExecutor

    import torch._dynamo  # noqa: F401

    group = ThreadGroup(2)
    sessions = [ThreadSession(rank, group) for rank in range(2)]

    def measured(session):
        try:
            return measure_checkpoint(built(session, way), session, 0.001, folder)
        except BaseException:
            group.barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        return [reading for readings in pool.map(measured, sessions) for reading in readings]


@pytest.mark.parametrize("way", SAVERS)
def test_a_folder_that_is_missing_is_a_reason(way, tmp_path):
    session = SESSIONS["ddp"]()
    with pytest.raises(CheckpointFailure, match="No such file or directory: '/"):
        measure_checkpoint(built(session, way), session, 0.001, tmp_path / "missing")


def test_a_rank_that_could_have_saved_says_that_another_one_could_not(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def failure(session):
        parent = tmp_path / "missing" if session.rank == 0 else tmp_path
        with pytest.raises(CheckpointFailure) as caught:
            measure_checkpoint(built(session, "blocking"), session, 0.001, parent)
        return caught.value

    group = ThreadGroup(2)
    with ThreadPoolExecutor(2) as pool:
        failures = list(pool.map(failure, [ThreadSession(rank, group) for rank in range(2)]))
    assert "No such file or directory" in str(failures[0])
    assert str(failures[1]) == "another rank could not save the checkpoint"
    assert [failed.elsewhere for failed in failures] == [False, True]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_named_before_it_is_filled(tmp_path):
    assert space_problem(tmp_path, 1) is None
    said = space_problem(tmp_path, 2**60)
    assert said.startswith(f"no space for a checkpoint on the disk of {tmp_path}")
    assert "it needs 1,152,921,504,606,846,976 bytes" in said
