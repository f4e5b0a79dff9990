"""The options of the Dask site, what it plans, and what it would start."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from pydantic import ValidationError

from bench.backends.dask.backend import BACKEND
from bench.backends.dask.cluster_ref import SchedulerAddress, Tls
from bench.core.case import roles_to_start
from bench.dask_cluster.cluster import ClusterInfo, JobQueueSpec, slurm_cluster_arguments
from harness.errors import UsageError
from harness.planning.options import option_combinations
from harness.sites.base.remote import MARGIN_S
from harness.sites.dask.processes import DaskJob, start_process
from harness.sites.dask.site import JOBS_FILE, SITE, DaskSite, DaskSiteOptions, covers, job_queue_spec
from tests.support.builders import make_case
from tests.support.dask_cluster import make_worker_info

ADDRESS = "tcp://10.0.0.1:8786"


def make(**changes):
    return make_case(**{"backend": "dask", "transport": "tasks", "site": "dask", "ranks_per_node": 1, **changes})


def surveyed(*workers, problem: str | None = None) -> DaskSite:
    """The site of a running cluster after its survey."""
    site = DaskSite(DaskSiteOptions(address=ADDRESS))
    site.cluster_info = ClusterInfo(worker_infos=workers, problem=problem)
    return site


def render(site: DaskSite, case) -> dict[str, str]:
    return site.render(case, roles_to_start(BACKEND.launch(case), services_provided=site.provides_services))


@pytest.mark.parametrize(
    ("given", "reason"),
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
def test_options_that_make_no_sense_are_refused(given, reason):
    with pytest.raises(ValidationError, match=reason):
        DaskSiteOptions(**given)
    with pytest.raises(UsageError, match=r"option dask[.:]"):
        option_combinations("dask", DaskSiteOptions, {name: (value,) for name, value in given.items()})


@pytest.mark.parametrize("address", ["tcp://me:s3cret@host:8786", "me:s3cret@host", "tcp://me:s3/c@ret@host:1"])
def test_a_refused_address_shows_no_password(address):
    with pytest.raises(UsageError, match=r"option dask.address = \*\*\*@host") as refused:
        option_combinations("dask", DaskSiteOptions, {"address": (address,)})
    assert "s3" not in str(refused.value)


def test_a_name_of_digits_stays_a_name():
    options = DaskSiteOptions(account=4711, memory=0)
    assert (options.account, options.memory) == ("4711", "0")


@pytest.mark.parametrize(
    ("options", "case", "reason"),
    [
        ({"address": ADDRESS}, make(backend="ddp", transport="gloo"), "runs the dask backend only: --backends dask"),
        ({}, make(), "no Dask cluster is named: --set dask.address=tcp://HOST:8786"),
        ({"address": ADDRESS}, make(net="1gbit"), "leave --net out"),
        ({"address": ADDRESS}, make(fault={"kind": "kill", "rank": 0}), "kill would hit the cluster's own worker"),
    ],
)
def test_what_no_cluster_can_run_is_known_without_a_survey(options, case, reason):
    assert reason in DaskSite(DaskSiteOptions(**options)).unavailable_reason(case)


def test_asking_for_a_reason_or_a_plan_changes_nothing():
    running = surveyed(make_worker_info("n1", 1))
    queued = DaskSite(DaskSiteOptions(jobqueue="slurm"))
    for site in (running, queued):
        before = dict(vars(site))
        site.unavailable_reason(make(ranks=1))
        site.unavailable_reason(make(ranks=4))
        render(site, make(ranks=4))
        assert vars(site) == before


def test_jobs_hold_the_largest_of_all_cases():
    cases = [make(ranks=4, ranks_per_node=1), make(ranks=4, ranks_per_node=2, threads=3)]
    options = DaskSiteOptions(jobqueue="slurm", queue="gpu", directives="--qos=long --exclude=n7,n8")
    spec = job_queue_spec(cases, options)
    assert (spec.count, spec.workers, spec.threads, spec.cores) == (4, 2, 4, 6)
    assert spec.directives == ("--exclusive", "--qos=long", "--exclude=n7,n8")
    arguments = slurm_cluster_arguments(spec)
    assert (arguments["cores"], arguments["processes"], arguments["job_cpu"]) == (8, 2, 6)
    assert covers(spec, job_queue_spec(cases[:1], DaskSiteOptions()))
    assert not covers(job_queue_spec(cases[:1], DaskSiteOptions()), spec)


def test_a_folder_that_would_need_quotes_is_left_out_of_the_job_script(tmp_path):
    assert job_queue_spec([make()], DaskSiteOptions(), tmp_path).logs == str(tmp_path)
    assert job_queue_spec([make()], DaskSiteOptions(), tmp_path / "a b").logs is None


@pytest.mark.parametrize(("transport", "hosts"), [("tasks", [0, 0, 1, 1]), ("gloo", [0, 1])])
def test_the_plan_says_which_host_holds_which_rank(transport, hosts):
    tls = {"tls_ca": "ca.pem", "tls_cert": "me.pem", "tls_key": "me.key"}
    site = SITE.with_options(DaskSiteOptions(address="tls://10.0.0.1:8786", **tls))
    files = render(site, make(transport=transport, ranks=4, ranks_per_node=2))
    assert list(files) == ["plan.json"]
    plan = json.loads(files["plan.json"])
    assert plan["scheduler"] == "tls://10.0.0.1:8786"
    assert plan["tls"] == {"ca": "ca.pem", "cert": "me.pem", "key": "me.key"}
    assert [task["host"] for task in plan["tasks"]] == hosts
    assert [(rank["rank"], rank["host"]) for rank in plan["ranks"]] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert site.chosen.tls == Tls(ca="ca.pem", cert="me.pem", key="me.key")


def test_the_jobs_that_would_be_submitted_are_shown():
    options = DaskSiteOptions(jobqueue="slurm", account="physics")
    files = render(DaskSite(options), make(ranks=4, ranks_per_node=2))
    jobs = json.loads(files["plan.json"])["jobs"]
    assert jobs["specification"] == JOBS_FILE
    assert jobs["print_job_script"].endswith(f"bench.dask_cluster.cluster script < {JOBS_FILE}")
    (line,) = files[JOBS_FILE].splitlines()
    assert JobQueueSpec.model_validate_json(line) == job_queue_spec([make(ranks=4, ranks_per_node=2)], options)


@pytest.mark.slow
def test_queued_jobs_do_not_inherit_what_a_launcher_left_behind(tmp_path, monkeypatch):
    (tmp_path / "show.py").write_text("import json, os\nprint(json.dumps(dict(os.environ)))\n")
    stale = {"OMPI_COMM_WORLD_RANK": "3", "OMP_PROC_BIND": "true"}
    for name, value in {**stale, "SLURM_CONF": "/etc/slurm.conf", "PYTHONPATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    process = start_process("show", request=SchedulerAddress(address=ADDRESS))
    variables = json.loads(process.communicate(timeout=30)[0])
    assert not stale.keys() & variables.keys()
    assert variables["SLURM_CONF"] == "/etc/slurm.conf"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (signal.SIGSTOP, "the Dask client was stopped by a signal"),
        (signal.SIGKILL, "the Dask client was killed by SIGKILL"),
    ],
)
def test_a_client_that_a_signal_stops_or_kills_is_named_and_not_waited_for(tmp_path, sent, reason):
    nobody = SchedulerAddress(address="tcp://127.0.0.1:9")
    job = DaskJob(make_case(backend="dask", transport="tasks", site="dask"), tmp_path, nobody)
    os.kill(job.process.pid, sent)
    began = time.monotonic()
    result = job.wait(0.5 - MARGIN_S)
    assert result.outcome == "failed"
    assert result.reason.startswith(reason)
    assert time.monotonic() - began < 10
