"""Hosts that ssh reaches: two nodes with an sshd each, the harness on a third machine that runs no rank."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.host.installation import find_mpirun
from bench.rank.progress import read_progress
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks
from tests.support.listening import ListenerWatch
from tests.support.namespaces import Node, cluster, unavailable_reason
from tests.support.paths import ROOT

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
TOOLS = {"ssh": shutil.which("ssh"), "sshd": SSHD, "ssh-keygen": shutil.which("ssh-keygen")}
MISSING = unavailable_reason() or ", ".join(
    f"no {name}: apt-get install openssh-server" for name, at in TOOLS.items() if not at
)

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no hosts can be made here: {MISSING}")

SCRATCH = "/run/scaling-scratch"
HOSTS = ("n1", "n2")
SUITE = """
workloads = ["synthetic"]
warmup = 2
steps = 8
repeats = 1
telemetry = "off"
decompose = false
own_cost = false
roofline = false
[options.synthetic]
model = ["emulated"]
compute_ms = [0]
"""
GRADIENT_BYTES = 814_090 * 4
WIRE_BYTES_S = 12.5e6


@dataclass(frozen=True)
class Place:
    """The cluster, with the harness's folder and its keys."""

    nodes: dict[str, Node]
    folder: Path
    gpu: Mapping[str, str]
    """The variables with which a sampler finds its trial's ranks on a GPU."""

    def arguments(self, *more: str, known_hosts: str = "known_hosts") -> list[str | Path]:
        said = {
            "file": "hosts.txt",
            "identity": self.folder / "key",
            "known_hosts": self.folder / known_hosts,
            "folder": ROOT,
            "scratch": SCRATCH,
        }
        settings = [word for name, value in said.items() for word in ("--set", f"hosts.{name}={value}")]
        return [sys.executable, "-m", "harness", "sweep", "hosts.toml", "--json", "--site", "hosts", *settings, *more]

    def start(self, *more: str) -> subprocess.Popen:
        return self.nodes["head"].start(
            self.arguments(*more),
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sweep(self, *more: str, status: int = 0, **how: Any) -> dict[str, Any]:
        done = self.nodes["head"].run(
            self.arguments(*more, **how), cwd=self.folder, env={"PYTHONPATH": str(ROOT)}, timeout=240
        )
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def on_hosts(self) -> dict[str, list[str]]:
        """What runs on the hosts beside sshd's own listeners."""
        return {name: [line for pid in self.nodes[name].processes() if (line := _command_line(pid))] for name in HOSTS}

    def nothing_left(self, within_s: float = 8.0, swept: Sequence[str] = HOSTS) -> None:
        """``swept``: hosts that could clear their folders away."""
        deadline = time.monotonic() + within_s
        while any(self.on_hosts().values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.on_hosts() == {name: [] for name in HOSTS}
        assert not [left for name in swept for left in self.nodes[name].outside(SCRATCH).iterdir()]


def _command_line(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
    return "" if "sshd" in line else line


def _keygen(file: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file.with_suffix(".pub").read_text()


def _start_sshd(node: Node, folder: Path, env: Mapping[str, str]) -> str:
    """Start one that takes the test's key alone and gives ``env`` to commands; returns its line for known_hosts."""
    key = folder / f"host-{node.name}"
    public = _keygen(key)
    settings = {
        "ListenAddress": node.address,
        "HostKey": key,
        "AuthorizedKeysFile": folder / "key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "SetEnv": " ".join(f"{name}={value}" for name, value in env.items()),
    }
    config = folder / f"sshd-{node.name}"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    node.run([str(SSHD), "-E", folder / f"sshd-{node.name}.log", "-f", config], check=True)
    return f"{node.name} {public}"


@contextmanager
def make_place(folder: Path, net: str) -> Iterator[Place]:
    _keygen(folder / "key")
    (folder / "hosts.txt").write_text("# the machines\nn1\nn2 slots=2\n")
    (folder / "hosts.toml").write_text(SUITE)
    (folder / "nobody").write_text("")
    with (
        gpu_with_ranks(folder, ranks=1) as gpu,
        cluster(["head", *HOSTS], net=net, private=("/run/sshd", SCRATCH)) as nodes,
    ):
        (folder / "known_hosts").write_text("".join(_start_sshd(nodes[name], folder, gpu) for name in HOSTS))
        yield Place(nodes, folder, gpu)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    with make_place(tmp_path_factory.mktemp("hosts"), "unshaped") as made:
        yield made


def assert_well(cells: Sequence[dict[str, Any]]) -> None:
    for cell in cells:
        assert (cell["outcome"], cell["same_work"]["verdict"]) == ("ok", "same"), (cell["title"], cell["reason"])
        assert "/site=hosts/per-node=1/" in cell["key"]


def test_the_same_suite_runs_on_two_hosts_and_a_step_takes_at_least_what_the_wire_takes(tmp_path):
    with make_place(tmp_path, "100mbit") as slow:
        with ListenerWatch(slow.nodes.values()) as watch:
            document = slow.sweep("--backends", "ddp,horovod,dask", "--nodes", "2", "--telemetry", "always")
        assert watch.elsewhere() == set()
        slow.nothing_left()
        check_stored_owners(slow.folder, slow.gpu)
    assert [cell["backend"] for cell in document["cells"]] == ["ddp", "horovod", "dask"]
    assert_well(document["cells"])
    for cell in document["cells"]:
        assert cell["step"]["value"] >= GRADIENT_BYTES / WIRE_BYTES_S


@pytest.mark.parametrize(
    ("start", "backend", "transport"),
    [("torchrun", "ddp", "gloo"), ("horovodrun", "horovod", "gloo"), ("mpirun", "horovod", "mpi")],
)
def test_ranks_that_others_start(place, start, backend, transport):
    if transport == "mpi" and find_mpirun() is None:
        pytest.skip("no mpirun")
    before = (place.folder / "known_hosts").read_text()
    options = ("--set", f"hosts.start={start}", "--set", f"{backend}.transport={transport}")
    with ListenerWatch(place.nodes.values()) as watch:
        document = place.sweep("--backends", backend, "--nodes", "2", "--telemetry", "always", *options)
    # Open MPI's daemons and its ranks: SECURITY.md names them.
    known = {"prterun", "prted", "python", "python3"} if transport == "mpi" else set()
    assert {process for _, process, _ in watch.elsewhere()} - {"?"} <= known
    assert known or watch.elsewhere() == set()
    assert len(document["cells"]) == 1
    assert_well(document["cells"])
    check_stored_owners(place.folder, place.gpu)
    assert (place.folder / "known_hosts").read_text() == before, "nobody adds a host key by himself"
    place.nothing_left()


TRAINING = """
import os, sys
import torch
from layers import make_model
if "HOROVOD_RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ:
    import horovod.torch as hvd
    hvd.init()
    model = make_model()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), 0.1))
else:
    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(make_model())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
for batch in torch.utils.data.DataLoader(torch.rand(4000, 8), batch_size=int(sys.argv[1])):
    optimizer.zero_grad()
    model(batch).mean().backward()
    optimizer.step()
"""
LAYERS = "import torch\ndef make_model(): return torch.nn.Linear(8, 2)\n"


@pytest.mark.parametrize(("start", "launcher"), [("own", "torchrun"), ("mpirun", "mpi")])
def test_a_program_travels_with_the_modules_beside_it(place, tmp_path, start, launcher):
    if launcher == "mpi" and find_mpirun() is None:
        pytest.skip("no mpirun")
    (tmp_path / "train.py").write_text(TRAINING)
    (tmp_path / "layers.py").write_text(LAYERS)
    script = ("--script", f"{tmp_path / 'train.py'} {{batch=16}}", "--launcher", launcher)
    with ListenerWatch(place.nodes.values()) as watch:
        document = place.sweep(*script, "--nodes", "2", "--set", f"hosts.start={start}")
    (cell,) = document["cells"]
    assert (cell["outcome"], cell["backend"], cell["scaling"]) == (
        "ok",
        "mpirun" if launcher == "mpi" else launcher,
        "weak",
    ), cell
    assert cell["same_work"]["verdict"] == "unproven"
    known = {"prterun", "prted", "python", "python3"} if launcher == "mpi" else set()
    assert {process for _, process, _ in watch.elsewhere()} - {"?"} <= known
    place.nothing_left()


def test_a_host_whose_key_is_not_known_is_refused(place):
    document = place.sweep("--backends", "ddp", "--nodes", "2", known_hosts="nobody", status=4)
    (cell,) = document["cells"]
    assert cell["outcome"] == "skipped"
    assert "n1: its host key is not known here: `ssh-keyscan n1 >>" in cell["reason"]
    assert (place.folder / "nobody").read_text() == ""


def test_a_killed_harness_leaves_no_rank(place):
    process = place.start(
        "--backends", "horovod", "--nodes", "2", "--steps", "100000", "--set", "hosts.start=horovodrun"
    )
    _await_steps(place, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    place.nothing_left()


def test_an_agent_serves_trials_until_it_dies_which_costs_one(place):
    process = place.start("--backends", "ddp", "--nodes", "2", "--repeats", "3", "--steps", "150")
    second = place.nodes["n2"]
    _await_steps(place, process)
    (first,) = _agents(second)
    _await(lambda: len(_ended(place)) == 1 and _measuring(place), process)
    assert _agents(second) == [first], "the second trial has the agent of the first one"
    os.kill(first, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    (cell,) = json.loads(out)["cells"]
    assert cell["throughput"]["n"] == 2
    assert "node 1 (n2) is gone: its agent was killed by a signal" in cell["reason"], cell["reason"]
    assert _ended(place) == ["ok", "failed", "ok"]
    place.nothing_left(swept=["n1"])
    (left,) = second.outside(SCRATCH).iterdir()
    shutil.rmtree(left)


def test_a_host_that_dies_is_named_and_the_rest_is_there(place):
    process = place.start("--backends", "ddp", "--nodes", "1,2", "--steps", "400", "--seed", "6")
    _await_steps(place, process)
    place.nodes["n2"].kill_all()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    alone, together = json.loads(out)["cells"]
    assert alone["outcome"] == "ok"
    assert together["outcome"] == "failed"
    assert "node 1 (n2) is gone: Connection " in together["reason"]
    place.nothing_left(swept=["n1"])


def _await_steps(place: Place, process: subprocess.Popen) -> None:
    """Until the rank on the second host is in its window."""
    _await(lambda: _measuring(place), process)


def _measuring(place: Place) -> bool:
    scratch = place.nodes["n2"].outside(SCRATCH)
    return any(one.phase == "measured step" for trial in scratch.iterdir() for one in read_progress(trial))


def _await(seen: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while not seen():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "not within 90 s"
        time.sleep(0.02)


def _agents(node: Node) -> list[int]:
    return [pid for pid in node.processes() if "bench.node.agent" in _command_line(pid).split()]


def _ended(place: Place) -> list[str]:
    """The outcomes of the last sweep's trials so far, in their order."""
    store = place.folder / ".runs" / "results.sqlite"
    with closing(sqlite3.connect(store)) as opened:
        query = "select outcome from trials where sweep = (select max(id) from sweeps) order by round"
        return [outcome for (outcome,) in opened.execute(query)]
