"""The local site: the commands that it renders, its networks, and a trial that can't start."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from bench.backends.dask.backend import BACKEND as DASK
from bench.backends.ddp import BACKEND as DDP
from bench.backends.horovod import BACKEND as HOROVOD
from bench.core.case import roles_to_start
from bench.node.forkserver import start_forkserver
from harness.sites.base.contract import TrialRequest, TrialResult
from harness.sites.local import networks
from harness.sites.local.site import LocalSite, local_layout, pinned_at_start_reason, with_variables
from tests.support.builders import make_case
from tests.support.paths import ROOT


def rendered(backend, case):
    """Each command as its variables and its words."""
    commands = []
    for line in LocalSite().render(case, roles_to_start(backend.launch(case)))["commands.sh"].splitlines():
        words = shlex.split(line)
        count = next(number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
        commands.append((dict(word.split("=", 1) for word in words[:count]), words[count:]))
    return commands


def test_each_rank_is_a_command():
    commands = rendered(DDP, make_case(ranks=3))
    assert [(env["RANK"], env["LOCAL_RANK"], env["WORLD_SIZE"]) for env, _ in commands] == [
        (str(rank), str(rank), "3") for rank in range(3)
    ]
    assert {(env["MASTER_ADDR"], env["GLOO_SOCKET_IFNAME"]) for env, _ in commands} == {("127.0.0.1", "lo")}
    (words,) = {tuple(words) for _, words in commands}
    assert words == ("python", "-m", "bench.rank.worker", "--case", "./case.json", "--role", "rank", "--out", ".")


def test_the_services_of_a_backend_come_first():
    commands = rendered(DASK, make_case(backend="dask", transport="tasks"))
    roles = [words[words.index("--role") + 1] for _, words in commands]
    assert roles == ["scheduler", "worker", "worker", "driver"]


def test_mpirun_starts_mpi_ranks_by_one_command():
    ((env, words),) = rendered(HOROVOD, make_case(backend="horovod", transport="mpi"))
    assert env == {}
    assert words[:2] == ["mpirun", "--oversubscribe"]
    assert words[words.index("-np") + 1] == "2"


def test_the_rendered_file_for_its_readers(golden):
    case = make_case()
    golden.check("local.sh", LocalSite().render(case, DDP.launch(case))["commands.sh"])


@pytest.mark.parametrize(
    ("changes", "addresses"), [({"ranks": 2}, ["1", "2"]), ({"ranks": 4, "ranks_per_node": 2}, ["1", "1", "2", "2"])]
)
def test_ranks_communicate_over_the_links(changes, addresses):
    commands = rendered(DDP, make_case(net="1gbit", **changes))
    variables = [env for env, _ in commands]
    assert {(env["MASTER_ADDR"], env["GLOO_SOCKET_IFNAME"]) for env in variables} == {("10.77.0.1", "eth0")}
    assert [env["OWN_ADDR"] for env in variables] == [f"10.77.0.{address}" for address in addresses]
    assert [env["LOCAL_RANK"] for env in variables] == [str(rank) for rank in range(len(addresses))], "cores are shared"


def test_a_single_rank_on_a_network_has_an_address_too():
    layout = local_layout(make_case(ranks=1, net="1gbit"), 7)
    assert [node.address for node in layout.local_nodes] == ["10.77.0.1"]


def test_several_nodes_need_a_network():
    assert "--net joins nodes made of namespaces" in networks.unavailable_reason(make_case(ranks=4, ranks_per_node=2))
    assert networks.unavailable_reason(make_case(ranks=2, ranks_per_node=2)) is None, "one node: this machine"


class FullForkserver:
    """A forkserver that has no room for another process after the first."""

    def __init__(self):
        self.started = []

    def Process(self, *, target, args, name):  # noqa: N802 - as multiprocessing has it
        if self.started:
            raise OSError("no room for another process")
        self.started.append(StartedProcess())
        return self.started[-1]


class StartedProcess:
    pid = None
    killed = joined = False

    def __init__(self):
        self.sentinel, ended = os.pipe()
        os.close(ended)

    def start(self):
        return

    def join(self):
        self.joined = True

    def close(self):
        os.close(self.sentinel)


@pytest.mark.slow
def test_a_trial_that_can_not_start_all_its_ranks_ends_those_that_it_started(tmp_path):
    site, case = LocalSite(), make_case()
    # A process has one forkserver: the start of a rank would make one that has loaded nothing of ours, and all later
    # tests of this process would have it.
    start_forkserver((), always=())
    site.forkserver = FullForkserver()
    with pytest.raises(OSError, match="no room"):
        site.start(TrialRequest(case, DDP.launch(case), tmp_path))
    assert [process.joined for process in site.forkserver.started] == [True]


def test_a_failed_trial_names_the_variables_of_its_ranks():
    env = {"TORCH_DISTRIBUTED_DEBUG": "DETAIL", "HOME": "/h"}
    failed = with_variables(TrialResult("failed", "rank 0 was killed", (), (), ("rank 0: last line",)), env)
    line = "environment variables of the ranks: TORCH_DISTRIBUTED_DEBUG=DETAIL"
    assert failed.log_tail == ("rank 0: last line", line)
    assert with_variables(TrialResult("ok", None, (), (), ()), env).log_tail == ()
    assert with_variables(failed, {"HOME": "/h"}) == failed


def test_a_binding_by_a_preloaded_library_is_refused_with_its_remedy():
    env = {"LD_PRELOAD": "/opt/intel/lib/libiomp5.so", "OMP_PROC_BIND": "true"}
    reason = pinned_at_start_reason(env, (0,), (0, 1, 2, 3)) or ""
    assert reason.startswith("OMP_PROC_BIND: with LD_PRELOAD=/opt/intel/lib/libiomp5.so")
    assert "to 1 of 4 cores; unset it" in reason
    assert pinned_at_start_reason(env, (0, 1), (0, 1)) is None
    assert pinned_at_start_reason({"OMP_PROC_BIND": "true"}, (0,), (0, 1)) is None, "the command's own mask is meant"
    assert pinned_at_start_reason({**env, "LD_PRELOAD": "libjemalloc.so"}, (0,), (0, 1)) is None


REASONS = """
from harness.sites.local.site import LocalSite
from tests.support.builders import make_case
for transport in ("gloo", "none"):
    print(LocalSite().unavailable_reason(make_case(transport=transport, ranks=2, ranks_per_node=2)))
"""


@pytest.mark.slow
def test_a_loopback_interface_that_is_down_is_named_before_ranks_wait_for_each_other():
    inside = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("no network namespace can be created here")
    command = [*inside, sys.executable, "-c", REASONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "loopback interface lo can't be used (Network is unreachable); bring it up: ip link set lo up",
        "None",
    ], "a single rank needs none"


SERVER = """
import sys
from harness.sites.local.site import LocalSite

LOOK = "(__import__('os').getppid(), 'arrives' in __import__('sys').modules)"
if __name__ == "__main__":
    site = LocalSite()
    site.reserve(())  # no frameworks
    for warm, modules in ((site.warm, ()), (site.warm_again, ("arrives",)), (site.warm, ("arrives",))):
        warm(modules)
        with site.forkserver.Pool(1) as pool:
            print(*pool.apply(eval, (LOOK,)))
"""


@pytest.mark.slow
def test_a_module_that_was_built_meanwhile_is_loaded_before_ranks_are_forked(tmp_path):
    """In a process of its own, since a process has one forkserver."""
    (tmp_path / "arrives.py").write_text("")
    (tmp_path / "server.py").write_text(SERVER)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, str(tmp_path / "server.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    (first, before), (second, after), (third, still) = (line.split() for line in done.stdout.splitlines())
    assert (before, after, still) == ("False", "True", "True")
    assert first != second == third
