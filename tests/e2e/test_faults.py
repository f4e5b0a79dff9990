"""Every fault on real ranks under every backend: it ends in time, it is named with rank and step, the sweep goes on."""

from __future__ import annotations

import json
import re
import sqlite3

import pytest

from tests.e2e.conftest import by_title
from tests.support.paths import ROOT

EVERY_BACKEND = ("--backends", "ddp,horovod,dask", "--workloads", "synthetic", "--steps", "8")
EVERY = (*EVERY_BACKEND, "--ranks", "1,2")
MPI = (
    "--backends",
    "horovod",
    "--set",
    "horovod.transport=mpi",
    "--workloads",
    "synthetic",
    "--ranks",
    "2",
    "--steps",
    "8",
)


def trials(harness, outcome):
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        found = store.execute("select body from trials where outcome = ?", (outcome,)).fetchall()
    return [json.loads(body) for (body,) in found]


def injected(harness, fault, *arguments, timeout="60", status=4):
    """The touched and the untouched cells of a sweep with a fault; one that ends well takes its steps apart too."""
    kept = () if status else ("decompose", "warmup")
    asked = (*arguments, "--timeout", timeout, "--inject", fault)
    document = harness.lean_sweep(*asked, keeping=kept, status=status)
    harness.nothing_left()
    touched = [cell for cell in document["cells"] if cell["ranks"] > 1]
    spared = [cell for cell in document["cells"] if cell["ranks"] == 1]
    assert all("injected" in cell["flags"] and fault in cell["title"] for cell in touched)
    assert all("injected" not in cell["flags"] and cell["outcome"] == "ok" for cell in spared), "the sweep goes on"
    assert len(touched) == len({cell["backend"] for cell in document["cells"]})
    return touched


@pytest.mark.parametrize(
    ("fault", "said", "ranks"),
    [
        ("kill:rank=1,step=3", "1 was killed by SIGKILL", "1,2"),
        ("exit:rank=1,step=3", "1 exited with status 3", "2"),
        ("raise:rank=1,step=3", "rank 1: InjectedFault: injected by raise:rank=1,step=3", "2"),
        ("oom:rank=1,step=3", "rank 1: MemoryError", "2"),
    ],
)
def test_a_rank_that_fails_is_named_at_once(harness, fault, said, ranks):
    for cell in injected(harness, fault, *EVERY_BACKEND, "--ranks", ranks):
        assert cell["outcome"] == "failed", cell["reason"]
        assert said in cell["reason"], cell["title"]
        assert "in measured step 3" in cell["reason"], cell["title"]
        assert cell["throughput"] is None
    for trial in trials(harness, "failed"):
        assert trial["wall_s"] < 30, "the trial did not wait for its time limit of 60 s"


@pytest.mark.parametrize("fault", ["kill:rank=1,step=3", "raise:rank=1,step=3", "exit:rank=0,step=3"])
def test_a_rank_that_fails_under_mpirun_is_named(harness, fault):
    (cell,) = injected(harness, fault, *MPI)
    assert cell["outcome"] == "failed"
    rank = "0" if "rank=0" in fault else "1"
    assert f"rank {rank}" in cell["reason"]
    assert "in measured step 3" in cell["reason"]


def test_a_rank_that_hangs_in_a_step_ends_in_time_with_every_stack(harness):
    for cell in injected(harness, "stop:rank=1,step=3", *EVERY, timeout="7"):
        assert cell["outcome"] == "timeout"
        assert "not done within 7 s" in cell["reason"]
        assert "rank 0 in measured step 3" in cell["reason"]
        assert "rank 1 in measured step 3 (stopped)" in cell["reason"]
        # By PyTorch's flight recorder, which Horovod and Dask do without.
        waits = r"; rank 0 waits in all_reduce \(collective \d+\), which rank 1 has not begun: its last one was "
        assert (re.search(waits, cell["reason"]) is not None) == (cell["backend"] == "ddp")
    for trial in trials(harness, "timeout"):
        backend, tail = trial["case"]["backend"], "\n".join(trial["log_tail"])
        holder = "worker" if backend == "dask" else "rank"
        # The other rank waits in its third step; the stopped one tells its stack before it does anything else.
        assert f"{holder} 0:   File" in tail, backend
        assert re.search(rf"{holder} 1:   File .*faults\.py.* in inject", tail), backend


@pytest.mark.alone
def test_a_rank_that_hangs_under_mpirun_is_named(harness):
    (cell,) = injected(harness, "stop:rank=1,step=3", *MPI, timeout="15")
    assert cell["outcome"] == "timeout"
    assert "rank 1 in measured step 3 (stopped)" in cell["reason"]
    (trial,) = trials(harness, "timeout")
    assert any(line.startswith("rank 0:   File") for line in trial["log_tail"])


def test_a_rank_that_hangs_at_start_is_named(harness):
    for cell in injected(harness, "stop:rank=0,step=0", *EVERY_BACKEND, "--ranks", "2", timeout="6"):
        assert cell["outcome"] == "timeout"
        assert "rank 0 while joining the other ranks (stopped)" in cell["reason"]


def test_a_stopped_rank_is_named_and_not_the_one_that_gives_up_on_it(harness):
    """Horovod gives up on a rank after half a minute."""
    horovod = ("--backends", "horovod", "--workloads", "synthetic", "--ranks", "2", "--steps", "8")
    (cell,) = injected(harness, "stop:rank=1,step=3", *horovod, timeout="120")
    assert cell["outcome"] == "failed"
    assert "rank 1 was stopped by a signal in measured step 3" in cell["reason"]
    (trial,) = trials(harness, "failed")
    assert trial["log_tail"][0].startswith("rank 1: ")
    assert any(re.match(r"rank 1:   File .*faults.py.* in inject", line) for line in trial["log_tail"])


UNREACHABLE = '''
"""DDP whose ranks are told to meet where nobody is."""
from bench.backends.ddp import Ddp
from bench.core.case import Role

class Unreachable(Ddp):
    name = "unreachable"

    def launch(self, case):
        return (Role(name="rank", count=case.ranks, env={"MASTER_ADDR": "192.0.2.1"}),)

BACKEND = Unreachable()
'''


def test_a_rendezvous_that_nobody_reaches_is_said(planted):
    harness = planted({"bench/backends/unreachable.py": UNREACHABLE})
    document = harness.lean_sweep(
        "--backends",
        "unreachable,ddp",
        "--workloads",
        "synthetic",
        "--ranks",
        "2",
        "--steps",
        "8",
        "--timeout",
        "8",
        status=4,
    )
    cells = {cell["backend"]: cell for cell in document["cells"]}
    assert cells["unreachable"]["outcome"] in ("timeout", "failed")
    assert "joining the other ranks" in cells["unreachable"]["reason"]
    assert cells["ddp"]["outcome"] == "ok"
    harness.nothing_left()


@pytest.mark.alone
def test_a_straggler_is_named_although_all_steps_are_equally_long(harness):
    for cell in injected(harness, "slow:rank=1,ms=80", *EVERY, status=0):
        (late,) = cell["decomposition"]["stragglers"]
        assert late["rank"] == 1
        assert 0.07 < late["delay_s"] < 0.11, cell["title"]
    for trial in trials(harness, "ok"):
        if trial["case"]["ranks"] == 2:
            both = [sum(rank["step_s"]) for rank in trial["ranks"]]
            assert both[0] == pytest.approx(both[1], rel=0.15), "the exchange makes all ranks' steps equally long"


@pytest.mark.alone
def test_a_straggler_from_a_later_step_on(harness):
    (cell,) = injected(
        harness,
        "slow:rank=0,step=5,ms=60",
        "--backends",
        "ddp",
        "--workloads",
        "synthetic",
        "--ranks",
        "2",
        "--steps",
        "12",
        status=0,
    )
    (trial,) = trials(harness, "ok")
    steps = [max(both) for both in zip(*(rank["step_s"] for rank in trial["ranks"]), strict=True)]
    assert min(steps[4:]) > 0.06 > sorted(steps[:4])[1]
    assert cell["decomposition"]["stragglers"][0]["rank"] == 0


def test_a_touched_cell_is_no_baseline(harness):
    document = harness.lean_sweep(
        "--backends",
        "ddp",
        "--workloads",
        "synthetic",
        "--ranks",
        "1,2",
        "--steps",
        "5",
        "--inject",
        "slow:rank=0,ms=20",
    )
    cells = by_title(document).values()
    assert all(cell["speedup"] is None for cell in cells)
    assert {cell["scaling_reason"] for cell in cells} == {"no rank count of this curve gave a baseline"}


DIVERGING = f"""
plugins = ["{ROOT}/tests/support/plugins/my_diverging.py"]
workloads = ["my_diverging"]
backends = ["ddp", "fsdp", "horovod", "dask"]
ranks = [2]
warmup = 6
steps = 10
verify_steps = 0
decompose = false
own_cost = false
roofline = false
"""


def test_a_loss_that_stops_being_a_number_is_named_under_every_backend(harness):
    (harness.folder / "diverging.toml").write_text(DIVERGING)
    for cell in harness.sweep("diverging.toml", status=4)["cells"]:
        assert (cell["outcome"], cell["throughput"]) == ("failed", None), cell["title"]
        assert "rank 0: loss is nan from step 12 on (measured step 6)" in cell["reason"], cell["title"]
