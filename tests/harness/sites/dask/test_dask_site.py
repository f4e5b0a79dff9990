"""Where ranks go among a cluster's workers, what is refused and why, and what its client takes from the network."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from bench.backends.dask.backend import BACKEND
from bench.backends.dask.cluster_ref import Tls
from bench.backends.dask.exchange import ExchangeClosed, Mailbox
from bench.core.machine import NodeFacts
from bench.dask_cluster.assignment import DaskWorkerInfo, UnsuitableCluster, assign, find_mismatch
from bench.dask_cluster.client import is_safe_to_name
from bench.dask_cluster.cluster import slurm_cluster_arguments
from harness.errors import UsageError
from harness.planning.options import option_combinations
from harness.sites.dask.site import SITE, DaskSiteOptions, covers, jobs_for
from tests.support.builders import make_case
from tests.support.paths import GOLDEN

ADDRESS = "tcp://10.0.0.1:8786"


def facts(host: str = "n1", **packages) -> NodeFacts:
    versions = {"dask": "2026.8.0", "distributed": "2026.8.0", "torch": "2.13.0", **packages}
    return NodeFacts(
        node=0, host=host, system="", cpu="", cores=2, memory_bytes=1, gpus=(), python="3.11.7", packages=versions
    )


def offer(host: str, port: int, threads: int = 2, package: str = "same", **packages) -> DaskWorkerInfo:
    return DaskWorkerInfo(
        address=f"tcp://{host}:{port}", threads=threads, package=package, facts=facts(host, **packages)
    )


def make(**changes):
    return make_case(**{"backend": "dask", "transport": "tasks", "site": "dask", "ranks_per_node": 1, **changes})


def addresses(assignment) -> list[list[str]]:
    return [[one.address for one in mine] for mine in assignment]


def test_tasks_put_each_rank_in_a_worker_of_its_own_host_by_host():
    offers = [offer("n2", 1), offer("n1", 2), offer("n1", 1), offer("n2", 2), offer("n3", 1)]
    found = addresses(assign(make(ranks=4, ranks_per_node=2), offers))
    assert found == [["tcp://n1:1", "tcp://n1:2"], ["tcp://n2:1", "tcp://n2:2"]]


def test_a_worker_without_a_thread_for_the_exchange_holds_no_rank_by_tasks():
    assert addresses(assign(make(ranks=1), [offer("n1", 1, threads=1), offer("n2", 1)])) == [["tcp://n2:1"]]


def test_ranks_in_processes_need_as_many_threads_as_they_have_and_no_worker_each():
    case = make(transport="gloo", ranks=4, ranks_per_node=4)
    assert addresses(assign(case, [offer("n1", 1, threads=8)])) == [["tcp://n1:1"]]
    with pytest.raises(
        UnsuitableCluster, match="4 ranks take 1 host whose workers have 4 threads; the cluster has workers on n1"
    ):
        assign(case, [offer("n1", 1), offer("n1", 2, threads=1)])


@pytest.mark.parametrize(
    ("worker_infos", "said"),
    [
        ([], "3 ranks by tasks take 3 hosts with 1 worker of 2 threads; the cluster has no workers"),
        (
            [offer("n1", 1), offer("n1", 2, threads=1), offer("n2", 1, threads=4)],
            "the cluster has workers on n1 (2, 1 threads), n2 (4 threads)",
        ),
    ],
)
def test_too_small_a_cluster_is_told_with_what_it_has(worker_infos, said):
    with pytest.raises(UnsuitableCluster) as refused:
        assign(make(ranks=3), worker_infos)
    assert said in str(refused.value)


HERE = offer("here", 0)
VERSIONS = {"python": "3.11", "dask": "2026.8.0", "distributed": "2026.8.0", "msgpack": "1"}


@pytest.mark.parametrize(
    ("scheduler", "worker", "said"),
    [
        (VERSIONS, offer("n1", 1), None),
        ({**VERSIONS, "dask": "2025.1.0"}, offer("n1", 1), "the scheduler has dask 2025.1.0, here it is 2026.8.0"),
        (VERSIONS, offer("n1", 1, distributed="1"), "worker tcp://n1:1 on n1 has distributed 1, here it is 2026.8.0"),
        (VERSIONS, offer("n1", 1, package="other"), "other sources of this package (other, here same)"),
    ],
)
def test_what_differs_on_the_cluster_is_one_line(scheduler, worker, said):
    found = find_mismatch(HERE, scheduler, [worker])
    assert (found is None) if said is None else (said in found and "\n" not in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": "10.0.0.1:8786"}, "address"),
        ({"address": "tcp://host:1;reboot"}, "address"),
        ({"address": "tls://host:8786"}, "goes with tls_ca"),
        ({"tls_ca": "ca.pem"}, "belong together"),
        ({"address": ADDRESS, "jobqueue": "slurm"}, "leave one of them out"),
        ({"queue": "short\n#SBATCH --uid=0"}, "queue"),
        ({"python": "/usr/bin/python; reboot"}, "python"),
        ({"directives": "--wrap=reboot"}, "directives"),
        ({"directives": "--exclude=$(reboot)"}, "directives"),
        ({"walltime": "long"}, "walltime"),
    ],
)
def test_options_that_make_no_sense_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        DaskSiteOptions(**given)
    with pytest.raises(UsageError, match=r"option dask\."):
        option_combinations("dask", DaskSiteOptions, {name: (value,) for name, value in given.items()})


@pytest.mark.parametrize("address", ["tcp://me:s3cret@host:8786", "me:s3cret@host", "tcp://me:s3/c@ret@host:1"])
def test_a_refused_address_tells_no_password(address):
    with pytest.raises(UsageError, match=r"option dask.address = \*\*\*@host") as refused:
        option_combinations("dask", DaskSiteOptions, {"address": (address,)})
    assert "s3" not in str(refused.value)


def test_what_looks_like_a_number_is_a_name_all_the_same():
    options = DaskSiteOptions(account=4711, memory=0)
    assert (options.account, options.memory) == ("4711", "0")


@pytest.mark.parametrize(
    ("options", "case", "said"),
    [
        ({"address": ADDRESS}, make(backend="ddp", transport="gloo"), "runs the dask backend only: --backends dask"),
        ({}, make(), "no Dask cluster is named: --set dask.address=tcp://HOST:8786"),
        ({"address": ADDRESS}, make(net="1gbit"), "leave --net out"),
        ({"address": ADDRESS}, make(fault={"kind": "kill", "rank": 0}), "kill would hit the cluster's own worker"),
    ],
)
def test_what_can_t_run_there_is_said_before_the_cluster_is_asked(options, case, said):
    assert said in SITE.with_options(DaskSiteOptions(**options)).unavailable_reason(case)


def test_jobs_hold_the_largest_of_all_cases():
    cases = [make(ranks=4, ranks_per_node=1), make(ranks=4, ranks_per_node=2, threads=3)]
    jobs = jobs_for(cases, DaskSiteOptions(jobqueue="slurm", queue="gpu", directives="--qos=long --exclude=n7,n8"))
    assert (jobs.count, jobs.workers, jobs.threads, jobs.cores) == (4, 2, 4, 6)
    assert jobs.directives == ("--exclusive", "--qos=long", "--exclude=n7,n8")
    told = slurm_cluster_arguments(jobs)
    assert (told["cores"], told["processes"], told["job_cpu"]) == (8, 2, 6)
    assert covers(jobs, jobs_for(cases[:1], DaskSiteOptions()))
    assert not covers(jobs_for(cases[:1], DaskSiteOptions()), jobs)


@pytest.mark.parametrize(("name", "transport"), [("tasks", "tasks"), ("gloo", "gloo")])
def test_rendered_plan(name, transport):
    tls = {"tls_ca": "ca.pem", "tls_cert": "me.pem", "tls_key": "me.key"}
    site = SITE.with_options(DaskSiteOptions(address="tls://10.0.0.1:8786", **tls))
    case = make(transport=transport, ranks=4, ranks_per_node=2)
    assert site.render(case, BACKEND.launch(case)) == {"plan.json": (GOLDEN / f"dask-{name}.json").read_text()}
    assert site.chosen.tls == Tls(ca="ca.pem", cert="me.pem", key="me.key")


def test_a_pickle_may_name_exceptions_and_texts_only():
    assert is_safe_to_name("builtins", "KeyError")
    assert is_safe_to_name("builtins", "str")
    for module, name in [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "SystemExit"),
        ("os", "system"),
        ("builtins", "no_such_thing"),
        ("subprocess", "Popen"),
    ]:
        assert not is_safe_to_name(module, name)


def test_the_client_s_process_loads_no_other_pickle():
    program = """
import pickle, threading
from bench.dask_cluster.client import UnsafePickle, pickles_allowed, refuse_pickles
harmful, plain = pickle.dumps(print), pickle.dumps({"a": [1, KeyError("x")]})
refuse_pickles()
assert str(pickle.loads(plain)["a"][1]) == "'x'"
for load in (pickle.loads, pickle._loads):
    try:
        load(harmful)
    except UnsafePickle as refused:
        assert "builtins.print" in str(refused)
    else:
        raise SystemExit("loaded")
with pickles_allowed():
    assert pickle.loads(harmful) is print
    others = []
    def other():
        try:
            others.append(pickle.loads(harmful))
        except UnsafePickle:
            others.append("refused")
    thread = threading.Thread(target=other); thread.start(); thread.join()
    assert others == ["refused"], "the threads that read the network are not those that build graphs"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_mailbox_lets_go_of_both_ends():
    import asyncio
    import threading

    box, found = Mailbox(), []

    def train():
        try:
            box.exchange("mine")
        except ExchangeClosed:
            found.append("let go")

    async def serve():
        assert await box.turn(()) == "mine"
        waiting = asyncio.create_task(box.turn(()))
        await asyncio.sleep(0)
        box.close()
        assert await asyncio.wait_for(waiting, 10) is None
        assert await box.turn(()) is None

    thread = threading.Thread(target=train)
    thread.start()
    asyncio.run(serve())
    thread.join(10)
    assert found == ["let go"]
