"""The argument lists of the launchers."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys

from bench.host.network import Interface
from bench.node.launchers.base import worker_command
from bench.node.launchers.horovodrun import horovodrun_command
from bench.node.launchers.mpirun import MpiHosts, mpirun_command
from bench.node.launchers.runner import launcher_environment
from bench.node.launchers.torchrun import torchrun_command
from bench.node.rendezvous import Rendezvous
from tests.support.builders import make_case
from tests.support.paths import ROOT

ETH0 = Interface("eth0", "10.0.0.1")


def test_the_worker_reads_the_arguments_of_its_command(tmp_path):
    case_file = tmp_path / "case.json"
    case_file.write_text(make_case().model_dump_json())
    command = worker_command(sys.executable, str(case_file), str(tmp_path), "no-such-role")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60).returncode == 1
    assert "has no role 'no-such-role'" in (tmp_path / "failure-no-such-role-0.json").read_text()


def test_mpirun_on_this_machine_starts_more_ranks_than_cores_and_binds_none():
    command = mpirun_command(3, ("rank",), mpirun="/opt/mpirun", as_root=False)
    assert command == ("/opt/mpirun", "--oversubscribe", "--bind-to", "none", "-np", "3", "rank")


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
    assert shlex.join(command).endswith(" p -m bench.rank.worker --case /f/case.json --role rank --out /f")


def test_horovodrun_uses_our_ssh_and_one_interface():
    command = horovodrun_command("n1:2", 2, "ssh -F c", ("r",), python="p", interface=ETH0)
    assert command[:5] == ("p", "-m", "bench.node.launchers.horovodrun", "10.0.0.1", "ssh -F c")
    assert {("--network-interfaces", "eth0"), ("-np", "2"), ("-H", "n1:2")} <= set(itertools.pairwise(command))
    assert command[-1] == "r"


def test_torchrun_gets_the_number_of_its_node_and_the_rendezvous():
    case = make_case(ranks=4, ranks_per_node=2, site="hosts")
    command = torchrun_command(case, Rendezvous(1, 2, "a", 7), Interface("eth1", "10.0.0.2"), ("--case", "c"))
    after = dict(itertools.pairwise(command))
    assert (after["--nnodes"], after["--node-rank"], after["--nproc-per-node"]) == ("2", "1", "2")
    assert (after["--master-addr"], after["--master-port"], after["--local-addr"]) == ("a", "7", "10.0.0.2")
    assert after["--rdzv-backend"] == "static", "the others unpickle what they receive"
    assert command[-4:] == ("-m", "bench.rank.worker", "--case", "c")


def test_a_launcher_inherits_no_secret():
    assert launcher_environment({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "RANK": "3"}) == {"PATH": "/bin"}
