"""A round in one job: real agents in the pods of a stand-in for the cluster, which run its trials one after another."""

from __future__ import annotations

import threading
import time

import pytest

from bench.node.layout import required_roles
from bench.plugins.registry import load_backend
from harness.sites.base.contract import TrialRequest
from harness.sites.kubernetes.options import KubernetesOptions
from harness.sites.kubernetes.site import KubernetesSite
from tests.support.builders import make_case
from tests.support.kubernetes_server import stand_in


def case_of(window_s=0.2, **changes):
    case = make_case(ranks=2, ranks_per_node=1, site="kubernetes", **changes)
    return case.model_copy(update={"window_s": window_s, "telemetry": "off", "timeout_s": 90.0})


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with stand_in(tmp_path / "cluster") as found:
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path / "kubeconfig")))
        yield found


def requests(tmp_path, *cases):
    for number, case in enumerate(cases):
        folder = tmp_path / "sweep" / f"00-0000000{number}"
        folder.mkdir(parents=True)
        yield TrialRequest(case, required_roles(case, load_backend(case.backend)), folder)


def stepping(cluster):
    """Whether both pods' ranks have built their workload."""
    marks = [list(kubelet.folder.glob("results/00-00000001/progress-*")) for kubelet in cluster.kubelets.values()]
    return all(marks) and all(path.read_bytes()[8] > 1 for found in marks for path in found)


def kill_when_stepping(cluster):
    deadline = time.monotonic() + 90
    while not stepping(cluster) and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster.pod(1).kill("OOMKilled")


@pytest.mark.frameworks
def test_a_pod_that_dies_ends_one_trial_of_its_round_and_another_job_runs_the_rest(cluster, tmp_path):
    site = KubernetesSite(KubernetesOptions(interface="lo"))
    trials = list(requests(tmp_path, case_of(), case_of(window_s=80.0, seed=1), case_of(seed=2)))
    jobs = site.submit_round(trials)
    assert {job.handle for job in jobs} == {"scaling-sweep-00-00000000"}
    assert jobs[0].wait(90).outcome == "ok"
    killer = threading.Thread(target=kill_when_stepping, args=(cluster,))
    killer.start()
    killed = jobs[1].wait(90)
    killer.join()
    host = cluster.pod(1).pod["spec"]["nodeName"]
    assert killed.outcome == "failed"
    assert f"node 1 ({host}) is gone: OOMKilled: it used more memory than its limit" in killed.reason
    assert len(cluster.made) == 2, "both ran in the same pods"
    assert cluster.left() == []
    last = jobs[2].wait(90)
    assert (last.outcome, [record.rank for record in last.ranks]) == ("ok", [0, 1]), last
    assert len(cluster.made) == 4
    assert cluster.left() == []
