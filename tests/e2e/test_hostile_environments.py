"""The smallest sweep where others' shells, containers and machines get in the way: right, or refused in one line.

Mounts, host names and networks are those of a namespace that only the command sees.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Harness
from tests.support.namespaces import cluster, unavailable_reason

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces and cgroups are Linux's"),
    pytest.mark.usefixtures("new_interpreter"),
]

STALE = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_MCA_ess": "env",
    "PMIX_RANK": "3",
    "PMIX_NAMESPACE": "prterun-gone@1",
    "PMIX_SERVER_URI41": "prterun-gone@0.0;tcp4://127.0.0.1:1",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "gone.invalid",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RUN_ID": "none",
    "HOROVOD_RANK": "1",
    "HOROVOD_GLOO_RENDEZVOUS_PORT": "1",
    "HOROVOD_GLOO_IFACE": "gone0",
    "HOROVOD_ELASTIC": "1",
    "SLURM_JOB_ID": "1",
    "SLURM_JOBID": "1",
    "SLURM_NODELIST": "gone[1-2]",
    "SLURM_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "2",
}
BINDING = {
    "OMP_PROC_BIND": "true",
    "OMP_PLACES": "cores",
    "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "granularity=fine,compact",
}
BRIDGE = (
    "link add docker0 type bridge",
    "link set docker0 addrgenmode none",
    "link set eth0 master docker0",
    "address add 10.99.0.1/24 dev docker0",
    "link set docker0 up",
)
"""The only interface of a machine is made a port of a bridge: what it sends counts on both."""
SENDER = """
import socket
with socket.socket(type=socket.SOCK_DGRAM) as outlet:
    outlet.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for _ in range(1000):
        outlet.sendto(bytes(1000), ("10.99.0.255", 9))
"""


def small_sweep(harness: Harness, *arguments: str, workload: str = "synthetic", status: int = 0) -> list[dict]:
    """The cells of a sweep of 2 ranks and a few steps; ``--backends`` is ddp unless it is among ``arguments``."""
    asked = ("--workloads", workload, "--ranks", "2", "--steps", "5", "--device", "cpu")
    backends = () if "--backends" in arguments else ("--backends", "ddp")
    cells = harness.lean_sweep(*backends, *asked, *arguments, status=status)["cells"]
    harness.nothing_left()
    return cells


def trials(harness: Harness) -> list[dict[str, Any]]:
    with sqlite3.connect(harness.folder / ".runs" / "results.sqlite") as store:
        return [json.loads(body) for (body,) in store.execute("select body from trials")]


def ok(cells: list[dict]) -> bool:
    assert [(cell["title"], cell["reason"]) for cell in cells if cell["outcome"] != "ok"] == []
    return bool(cells)


def inside(harness: Harness, *setup: str) -> None:
    """Let the harness run in namespaces of its own, which the commands of ``setup`` prepare."""
    enter = ["unshare", "--mount", "--uts", "--net"]
    script = " && ".join(["ip link set lo up", *setup])
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("namespaces need root, unshare (util-linux) and ip (iproute2)")
    probe = subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this environment can't be made here: {probe.stderr.strip()}")
    run = f'{script} && cd {shlex.quote(str(harness.folder))} && exec "$@"'
    harness.command = (*enter, "sh", "-c", run, "sh", *harness.command)


@contextmanager
def cpu_quota(cores: float) -> Iterator[Path]:
    """A cgroup whose processes get as much time as so many cores; the file that a process joins it by."""
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    period_us = 100_000
    folder = (v1 if v1.is_dir() else v2) / f"scaling-test-{os.getpid()}"
    try:
        folder.mkdir()
        if v1.is_dir():
            (folder / "cpu.cfs_quota_us").write_text(str(int(cores * period_us)))
        else:
            (folder / "cpu.max").write_text(f"{int(cores * period_us)} {period_us}")
    except OSError as problem:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup with a CPU quota can be made here: {problem}")
    try:
        yield folder / "cgroup.procs"
    finally:
        with suppress(OSError):
            folder.rmdir()


def test_a_binding_of_openmp_leaves_each_rank_its_core(harness):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two ranks need two cores")
    harness.env |= BINDING
    assert ok(small_sweep(harness, "--threads", "1"))
    (trial,) = trials(harness)
    assert [rank["cores"] for rank in trial["ranks"]] == [[core] for core in sorted(os.sched_getaffinity(0))[:2]]
    assert [rank["threads"] for rank in trial["ranks"]] == [1, 1]


def test_a_binding_that_a_preloaded_library_applies_first_is_refused(harness):
    torch = importlib.util.find_spec("torch")
    library = next(Path(torch.origin).parent.glob("lib/libgomp*"), None) if torch and torch.origin else None
    if library is None or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("it takes a libgomp beside torch, and two cores")
    harness.env |= {"LD_PRELOAD": str(library), "OMP_PROC_BIND": "true"}
    done = harness.run("sweep", harness.lean(), "--backends", "ddp", "--workloads", "synthetic", "--ranks", "1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unset it: ranks get their cores from the plan" in done.stderr


def test_variables_of_earlier_launchers_mislead_no_rank(harness):
    harness.env |= STALE
    backends = ("--backends", "ddp,horovod", "--set", "horovod.transport=gloo,mpi")
    cells = small_sweep(harness, *backends)
    assert ok(cells)
    assert len(cells) == 3
    assert all(cell["variables"] == {} for cell in cells)


def test_debug_variables_are_recorded_and_shown(harness):
    harness.env |= {"TORCH_DISTRIBUTED_DEBUG": "DETAIL", "NCCL_DEBUG": "INFO", "HOROVOD_AUTOTUNE": "1"}
    wanted = {name: harness.env[name] for name in ("TORCH_DISTRIBUTED_DEBUG", "NCCL_DEBUG", "HOROVOD_AUTOTUNE")}
    cells = small_sweep(harness, "--backends", "ddp,horovod", workload="allreduce")
    assert ok(cells)
    assert [cell["variables"] for cell in cells] == [wanted, wanted]
    settings = next(cell["settings"] for cell in cells if cell["backend"] == "horovod")
    assert settings["fusion_mb"] == "tuned by Horovod (HOROVOD_AUTOTUNE)"
    (page,) = harness.folder.glob(".runs/*/report.html")
    assert "TORCH_DISTRIBUTED_DEBUG" in page.read_text()


def test_a_cpu_quota_counts_as_cores(harness):
    with cpu_quota(1) as procs:
        harness.command = ("sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh", *harness.command)
        (cell,) = small_sweep(harness)
    assert ok([cell])
    assert "oversubscribed" in cell["flags"], "two ranks have the time of one core"


def test_a_bridge_does_not_double_the_network(harness):
    if reason := unavailable_reason():
        pytest.skip(reason)
    with cluster(["n1"]) as nodes:
        node = nodes["n1"]
        node.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
        for command in BRIDGE:
            node.run(["ip", *command.split()], check=True)
        node.run([sys.executable, "-c", SENDER], check=True)
        enter = ("nsenter", f"--target={node.keeper}", "--net", "--uts", "--mount", "--", "env")
        harness.command = (*enter, f"--chdir={harness.folder}", *harness.command)
        assert ok(small_sweep(harness))
        counted = node.run(["sh", "-c", "cat /sys/class/net/eth0/statistics/[rt]x_bytes"]).stdout.split()
    (trial,) = trials(harness)
    (series,) = [one for one in trial["telemetry"][0]["series"] if one["name"] == "network_bytes"]
    assert max(series["values"]) > 1e6
    assert max(series["values"]) <= sum(map(int, counted))


def test_a_long_tmpdir_is_no_obstacle(harness, tmp_path):
    folder = tmp_path / ("t" * 118)
    folder.mkdir()
    harness.env |= {"TMPDIR": str(folder)}
    assert ok(small_sweep(harness))
    assert list(folder.iterdir()) == []


def test_without_a_home(harness):
    harness.env = {name: value for name, value in harness.env.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    assert ok(small_sweep(harness))


def test_on_a_read_only_root(harness):
    folder = shlex.quote(str(harness.folder))
    inside(harness, f"mount --bind {folder} {folder}", "mount -o remount,ro,bind /", "! touch /tmp/x 2>/dev/null")
    harness.env |= {"HOME": "/nonexistent"}
    assert ok(small_sweep(harness))


def test_without_any_folder_for_sockets_it_is_refused(harness):
    folder = shlex.quote(str(harness.folder))
    inside(
        harness, f"mount --bind {folder} {folder}", "mount -t tmpfs -o ro tmpfs /dev/shm", "mount -o remount,ro,bind /"
    )
    arguments = ("sweep", harness.lean(), "--backends", "ddp", "--workloads", "synthetic", "--ranks", "2")
    done = harness.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "set TMPDIR to a writable folder" in done.stderr


def test_with_a_small_shared_memory(harness):
    inside(harness, "mount -t tmpfs -o size=1m tmpfs /dev/shm")
    cells = small_sweep(harness, "--backends", "ddp,horovod", "--set", "horovod.transport=gloo,mpi", status=4)
    refused = [cell for cell in cells if cell["transport"] == "mpi"]
    assert ok([cell for cell in cells if cell not in refused])
    assert "has 1 MiB free, and Open MPI takes 16 MiB" in refused[0]["reason"]
    assert "horovod.transport=gloo" in refused[0]["reason"]


def test_where_the_host_s_name_does_not_resolve(harness):
    inside(harness, "hostname name-of-nobody.invalid")
    assert ok(small_sweep(harness, "--backends", "ddp,horovod"))


@pytest.mark.parametrize(
    "streams",
    ["2>/dev/full", "2>&1 | head -1", "<&- >&- 2>&-"],
    ids=["a full disk and ASCII", "a reader that ends", "closed"],
)
def test_a_sweep_does_not_depend_on_its_output(harness, streams):
    harness.env |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    harness.command = ("bash", "-c", f'{{ "$@"; echo $? > code; }} {streams}; true', "bash", *harness.command)
    done = harness.run(
        "sweep", harness.lean(), "--backends", "single", "--ranks", "1", "--steps", "3", "--repeats", "1"
    )
    assert (harness.folder / "code").read_text() == "0\n", done.stderr
    assert [trial["outcome"] for trial in trials(harness)] == ["ok", "ok"]
    assert len(list(harness.folder.glob(".runs/*/report.html"))) == 1
    harness.nothing_left()
