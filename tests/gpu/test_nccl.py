"""NCCL's log and the flight recorder on a device. About 90 s of device time on one GPU, two minutes on several."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys

import pytest

from bench.host.ownership import FOLDER_VARIABLE
from bench.rank.nccl_log import log_variables, read_nccl_log
from tests.support.paths import ROOT

PAIRS = 3
LEAN = "decompose = false\nown_cost = false\nroofline = false\n"

RANK = """
import json, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from bench.rank.flight_recorder import C10D, read_recorder, set_recorder_variables
folder, device = Path(sys.argv[1]), sys.argv[2]
cuda = device != "cpu"
set_recorder_variables()
began = time.monotonic()
dist.init_process_group("nccl" if cuda else "gloo", store=dist.HashStore(), rank=0, world_size=1)
x = torch.ones(1000, device=device)
dist.all_reduce(x)
x.sum().item()
joined_s = time.monotonic() - began
began = time.monotonic()
for _ in range(2000):
    dist.all_reduce(x)
x.sum().item()
steps_s = time.monotonic() - began
if cuda:
    torch.cuda._sleep(2_000_000_000)  # a second or more
dist.broadcast(x, 0)
entries = read_recorder(0, sys.modules[C10D]).entries
last = entries[-1]
print(json.dumps({
    "joined_s": joined_s, "steps_s": steps_s, "before": [entry.done for entry in entries[:-1]],
    "last": [last.group, last.operation, last.sequence, last.tensors, last.done],
}))
"""


def run_rank(folder, device, **variables) -> dict:
    folder.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("NCCL_")}
    env |= {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", FOLDER_VARIABLE: str(folder), **variables}
    command = [sys.executable, "-c", RANK, str(folder), str(device)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def sweep(folder, *arguments: str) -> dict:
    (folder / "lean.toml").write_text(LEAN)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked = ("sweep", "lean.toml", "--json", "--repeats", "1", "--workloads", "synthetic", "--backends", "ddp")
    command = [sys.executable, "-m", "harness", *asked, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, 4), done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    return cell


def device_count(device) -> int:
    import torch

    return 2 if device.type == "cpu" else torch.cuda.device_count()


def test_version_and_transports(device, tmp_path, record_figure):
    """What NCCL's log says of the ranks of a sweep: version, transports, topology"""
    import torch

    ranks = min(8, device_count(device))
    cell = sweep(tmp_path, "--device", device.type, "--ranks", str(ranks), "--steps", "20")
    assert cell["outcome"] == "ok", cell["reason"]
    if device.type == "cpu":
        assert (cell["nccl"], cell["nccl_reason"]) == (None, None)
        return
    report = cell["nccl"]
    print(report)
    assert cell["nccl_reason"] is None
    assert report["version"] == ".".join(map(str, torch.cuda.nccl.version()[:3]))
    assert report["ranks"] == ranks
    assert bool(report["transports"]) == (ranks > 1)
    note = ", ".join(f"{name} {count}" for name, count in report["transports"].items())
    record_figure("channels for collectives", report["channels"] or 0, "1", note=note or "one rank: no connection")


def test_cost_of_the_log(device, tmp_path, record_figure):
    """What writing NCCL's log costs when a rank joins, and in 2,000 all_reduces of one rank"""
    times: dict[bool, list[dict]] = {False: [], True: []}
    for number in range(PAIRS):
        for logged in (False, True):
            log = tmp_path / f"nccl-{number}.log"
            variables = log_variables({}, log) if logged else {}
            assert isinstance(variables, dict)
            times[logged].append(run_rank(tmp_path / "rank", device, **variables))
            if logged and device.type != "cpu":
                assert read_nccl_log(log).ranks == 1
    for what, name in (("steps_s", "2,000 all_reduces"), ("joined_s", "joining")):
        plain, logged = (statistics.median(run[what] for run in times[kind]) for kind in (False, True))
        record_figure(f"{name}, logged ÷ not", logged / plain, "1", note=f"{PAIRS} alternating pairs of processes")


def test_flight_recorder(device, tmp_path):
    """A collective that waits for the device is one that is not done, and those before are"""
    found = run_rank(tmp_path / "rank", device)
    assert found["before"]
    assert all(found["before"])
    assert found["last"] == ["default_pg", "broadcast", 2002, "Float [1000]", device.type == "cpu"]


def test_a_rank_that_hangs(device, tmp_path):
    """A rank that hangs is named by the collective that it has not begun"""
    if device_count(device) < 2:
        pytest.skip("needs 2 GPUs: NCCL has one rank on each")
    fault = ("--inject", "stop:rank=1,step=3", "--timeout", "30")
    cell = sweep(tmp_path, "--device", device.type, "--ranks", "2", "--steps", "8", *fault)
    assert cell["outcome"] in ("failed", "timeout")
    assert re.search(r"rank 0 waits in all_reduce \(collective \d+\), which rank 1 has not begun", cell["reason"])
