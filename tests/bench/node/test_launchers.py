"""The argument lists of the launchers."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys

import pytest

from bench.core.case import SAMPLER_ROLE
from bench.host.network import Interface
from bench.node.launchers.base import AGENT, LAUNCHERS, choose_launcher, launch_unavailable_reason, worker_command
from bench.node.launchers.horovodrun import horovodrun_command
from bench.node.launchers.mpirun import MpiHosts, lost_rank, mpirun_command
from bench.node.launchers.runner import launcher_environment
from bench.node.launchers.srun import FailedTask, SrunStep, first_failed_task, hosts_of_failed_tasks, srun_command
from bench.node.launchers.torchrun import torchrun_command
from bench.node.rendezvous import Rendezvous
from bench.plugins.registry import load_backend
from tests.support.builders import make_case
from tests.support.paths import ROOT

ETH0 = Interface("eth0", "10.0.0.1")


@pytest.mark.slow
def test_the_worker_reads_the_arguments_of_its_command(tmp_path):
    case_file = tmp_path / "case.json"
    case_file.write_text(make_case().model_dump_json())
    command = worker_command(sys.executable, str(case_file), str(tmp_path), "no-such-role")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60).returncode == 1
    assert "has no role 'no-such-role'" in (tmp_path / "failure-no-such-role-0.json").read_text()


def test_mpirun_on_this_machine_starts_more_ranks_than_cores_and_binds_none():
    command = mpirun_command(3, ("rank",), mpirun="/opt/mpirun", as_root=False)
    without_sockets = ("--mca", "btl", "^tcp")
    assert command == ("/opt/mpirun", "--oversubscribe", *without_sockets, "--bind-to", "none", "-np", "3", "rank")


def test_mpirun_keeps_the_transport_that_the_user_chose():
    command = mpirun_command(3, ("rank",), as_root=False, env={"OMPI_MCA_btl": "tcp,self"})
    assert "btl" not in command


def test_mpirun_may_run_as_root_only_where_it_does():
    assert mpirun_command(2, ("rank",), as_root=True)[:2] == ("mpirun", "--allow-run-as-root")


def test_mpirun_on_hosts_uses_our_ssh_and_one_interface():
    hosts = MpiHosts("n1:2,n2:2", "ssh -F c", ETH0, ("PATH", "HOME"))
    command = mpirun_command(4, worker_command("p", "/f/case.json", "/f"), hosts=hosts, as_root=False)
    assert {
        ("plm_ssh_agent", "ssh -F c"),
        ("--bind-to", "none"),
        ("--map-by", "slot"),
        ("--host", "n1:2,n2:2"),
        ("-np", "4"),
        ("-x", "PATH"),
        ("-x", "HOME"),
        ("btl_tcp_if_include", "eth0"),
        ("prte_if_include", "eth0"),
    } <= set(itertools.pairwise(command))
    assert "--oversubscribe" not in command
    assert ("btl", "^tcp") not in set(itertools.pairwise(command)), "ranks of several hosts need it"
    assert shlex.join(command).endswith(" p -m bench.rank.worker --case /f/case.json --role rank --out /f")


def test_mpirun_on_a_single_one_of_the_hosts_needs_no_sockets():
    command = mpirun_command(2, ("rank",), hosts=MpiHosts("n1:2", "ssh -F c", ETH0, ()), as_root=False)
    assert ("btl", "^tcp") in set(itertools.pairwise(command))


def test_horovodrun_uses_our_ssh_and_one_interface():
    command = horovodrun_command("n1:2", 2, "ssh -F c", ("r",), python="p", interface=ETH0, start_timeout_s=180)
    assert command[:5] == ("p", "-m", "bench.node.launchers.horovodrun", "10.0.0.1", "ssh -F c")
    assert {("--network-interfaces", "eth0"), ("-np", "2"), ("-H", "n1:2"), ("--start-timeout", "180")} <= set(
        itertools.pairwise(command)
    )
    assert command[-1] == "r"


def test_torchrun_gets_the_number_of_its_node_and_the_rendezvous():
    case = make_case(ranks=4, ranks_per_node=2, site="hosts", timeout_s=900)
    command = torchrun_command(case, Rendezvous(1, 2, "a", 7), Interface("eth1", "10.0.0.2"), ("--case", "c"))
    after = dict(itertools.pairwise(command))
    assert (after["--nnodes"], after["--node-rank"], after["--nproc-per-node"]) == ("2", "1", "2")
    assert (after["--master-addr"], after["--master-port"], after["--local-addr"]) == ("a", "7", "10.0.0.2")
    assert after["--rdzv-backend"] == "static", "the others unpickle what they receive"
    assert after["bench.node.launchers.torchrun"] == "10.0.0.2", "where its store listens"
    assert after["--rdzv-conf"] == "timeout=960", "torchrun gives up after the trial's own limit"
    assert command[-4:] == ("-m", "bench.rank.worker", "--case", "c")


def test_a_launcher_inherits_no_secret():
    assert launcher_environment({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "RANK": "3"}) == {"PATH": "/bin"}


def launched(backend: str, transport: str, **changes):
    case = make_case(backend=backend, transport=transport, **changes)
    return case, load_backend(backend).launch(case)


@pytest.mark.parametrize(
    ("backend", "transport", "preferred", "launcher"),
    [
        ("ddp", "gloo", None, AGENT),
        ("ddp", "gloo", "torchrun", "torchrun"),
        ("ddp", "gloo", "horovodrun", AGENT),
        ("fsdp", "gloo", "torchrun", "torchrun"),
        ("ddp", "gloo", "mpirun", AGENT),
        ("horovod", "gloo", "horovodrun", "horovodrun"),
        ("horovod", "gloo", "torchrun", AGENT),
        ("horovod", "mpi", None, "mpirun"),
        ("horovod", "mpi", "torchrun", "mpirun"),
        ("horovod", "mpi", "srun", "srun"),
        ("dask", "tasks", "torchrun", AGENT),
    ],
)
def test_the_launcher_is_the_preferred_one_where_it_can_start_the_ranks(backend, transport, preferred, launcher):
    _, roles = launched(backend, transport)
    assert choose_launcher((*roles, SAMPLER_ROLE), LAUNCHERS, preferred) == launcher


def test_a_site_without_a_suitable_launcher_is_named_with_the_remedy():
    case, roles = launched("horovod", "mpi", site="kubernetes")
    assert choose_launcher(roles, (AGENT, "torchrun")) is None
    assert launch_unavailable_reason(case, roles, (AGENT,)) == (
        "its ranks are started by mpirun or srun, which site kubernetes does not have: "
        "choose another transport (--set horovod.transport=…)"
    )
    assert launch_unavailable_reason(case, roles, (AGENT, "srun")) is None


def test_only_the_launcher_that_is_needed_is_examined():
    examined: list[str] = []

    def against(launcher: str) -> str:
        examined.append(launcher)
        return f"no {launcher}"

    assert launch_unavailable_reason(*launched("horovod", "mpi"), (AGENT, "mpirun"), against) == "no mpirun"
    assert launch_unavailable_reason(*launched("ddp", "gloo"), (AGENT, "mpirun"), against) == "no agent"
    assert examined == ["mpirun", "agent"]


@pytest.mark.parametrize(
    ("backend", "transport", "device", "reason"),
    [
        ("horovod", "mpi", "cpu", "mpirun starts all its ranks in one network namespace: "),
        ("ddp", "nccl", "cuda", "nccl joins the GPUs of one machine without its network: leave --net out"),
        ("fsdp", "nccl", "cuda", "nccl joins the GPUs"),
        ("horovod", "nccl", "cuda", "nccl joins the GPUs"),
        ("horovod", "gloo", "cuda", None),
        ("ddp", "gloo", "cpu", None),
    ],
)
def test_what_would_not_use_the_links_is_refused(backend, transport, device, reason):
    case, roles = launched(backend, transport, device=device, net="1gbit")
    found = launch_unavailable_reason(case, roles, (AGENT, "mpirun"))
    assert found == reason if reason is None else found.startswith(reason)
    assert launch_unavailable_reason(case.model_copy(update={"net": None}), roles, (AGENT, "mpirun")) is None


def test_srun_starts_a_step_with_its_time_limit_and_binds_no_task():
    ranks = SrunStep("00-a", nodes=2, tasks_per_node=3, cores_per_task=4, mpi="pmix", output="rank-%t.log")
    command = srun_command(ranks, time_limit_s=90.4, exit_grace_s=10)
    assert command[:4] == ("timeout", "--kill-after=10", "90", "srun")
    assert {"--ntasks=6", "--ntasks-per-node=3", "--nodes=2", "--cpus-per-task=4"} <= set(command)
    assert {"--mpi=pmix", "--output=rank-%t.log", "--cpu-bind=none", "--wait=10", "--job-name=00-a"} <= set(command)
    agents = srun_command(SrunStep("00-a", 2, 1, 12), time_limit_s=90, exit_grace_s=10)
    assert not any(word.startswith(("--mpi", "--output")) for word in agents)


def test_what_srun_reports_of_failed_tasks():
    lines = [
        "srun: error: Unable to create step",
        "srun: error: n[1-2]: tasks 0-1: Exited with exit code 1",
        "srun: error: n7: task 4: Killed",
        "n9: task 3: a rank's own words",
    ]
    assert hosts_of_failed_tasks(lines) == {"n1", "n2", "n7"}
    assert first_failed_task(lines[2:]) == FailedTask("n7", 4, "Killed")
    assert first_failed_task(lines[:1]) is None


def test_the_rank_that_mpirun_reports_as_lost():
    killed = ["prterun noticed that process rank 1 with PID 7 on node here exited on", "signal 9 (Killed)."]
    assert lost_rank(killed) == (1, -9)
    assert lost_rank(["  Process name: [prterun-here-7@1,1]", "  Exit code:    3"]) == (1, 3)
    assert lost_rank(["something else"]) is None
