"""How pods stand, and what becomes of a job: against a stand-in for the cluster that runs the pods' commands."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.errors import SiteError
from harness.sites.base.contract import TrialRequest
from harness.sites.kubernetes.client import KubernetesClient
from harness.sites.kubernetes.manifests import TERMINATION_GRACE_S
from harness.sites.kubernetes.options import KubernetesOptions, KubernetesTimeouts
from harness.sites.kubernetes.pods import deleted_pod, pending_reason, read_pod, trial_phase
from harness.sites.kubernetes.site import KubernetesSite
from tests.support.builders import make_case
from tests.support.kubernetes_server import stand_in

CASE = make_case(ranks=4, ranks_per_node=2, site="kubernetes")


def pod(phase, index=1, **status):
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {
        "metadata": {"name": f"p-{index}", "labels": labels},
        "spec": {"nodeName": "worker-3"},
        "status": {"phase": phase, **status},
    }


def container(**state):
    return {"containerStatuses": [{"name": "node", "image": "i:1", "state": state}]}


NO_PLACE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
STATUSES = [
    (pod("Succeeded"), "done", ""),
    (pod("Running"), "running", ""),
    (pod("Pending", conditions=[NO_PLACE]), "pending", "Unschedulable: 0/3 nodes are available"),
    (pod("Pending", **container(waiting={"reason": "ContainerCreating"})), "pending", ""),
    (pod("Pending", **container(waiting={"reason": "ErrImagePull"})), "pending", "ErrImagePull (i:1)"),
    (pod("Failed", **container(terminated={"exitCode": 137, "reason": "OOMKilled"})), "failed", "OOMKilled: "),
    (pod("Failed", **container(terminated={"exitCode": 137, "reason": "Error"})), "failed", "killed by signal 9"),
    (pod("Failed", **container(terminated={"exitCode": 2, "message": "no"})), "failed", "with status 2: no"),
    (pod("Failed", reason="Evicted", message="low on memory"), "lost", "Evicted: low on memory"),
    (pod("Running", reason="NodeLost"), "lost", "unreachable"),
    (pod("Unknown"), "lost", "unreachable"),
    (
        pod("Failed", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]),
        "lost",
        "PreemptionByScheduler",
    ),
]


@pytest.mark.parametrize(("document", "phase", "reason"), STATUSES)
def test_the_state_of_a_pod(document, phase, reason):
    found = read_pod(document)
    assert (found.node, found.host, found.phase) == (1, "worker-3", phase)
    assert reason in found.reason
    assert bool(found.reason) == bool(reason)


def test_the_phase_of_a_trial():
    def of(*sent):
        return trial_phase([read_pod(one) for one in sent], 2)

    assert of() == of(pod("Running")) == of(pod("Running"), pod("Pending", 0)) == "queued"
    assert of(pod("Running"), pod("Succeeded", 0)) == "running"
    assert of(pod("Failed"), pod("Running", 0)) == of(pod("Failed")) == "failing"
    assert of(pod("Failed"), pod("Succeeded", 0)) == "over"
    assert of(pod("Pending", **container(waiting={"reason": "ImagePullBackOff"}))) == "cannot start"
    assert deleted_pod(read_pod(pod("Running"))).reason == "its pod was deleted"
    assert deleted_pod(read_pod(pod("Succeeded"))).phase == "done"
    assert pending_reason([], 2) == "0 of 2 pods were created"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with stand_in(tmp_path / "cluster") as found:
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path / "kubeconfig")))
        yield found


def begin(tmp_path, timeouts=KubernetesTimeouts(), **options):
    folder = tmp_path / "sweep" / "00-0123abcd"
    folder.mkdir(parents=True)
    site = KubernetesSite(KubernetesOptions(**options), timeouts)
    site.warm(())
    return site.start(TrialRequest(CASE, (), folder))


@pytest.mark.slow
def test_an_image_that_can_not_be_pulled_is_named(cluster, tmp_path):
    job = begin(tmp_path, image="nowhere.example/x:1")
    ending = job.wait(60)
    assert ending.outcome == "failed"
    assert ending.reason == (
        'pod 0 of 2 waits: ImagePullBackOff (nowhere.example/x:1): Back-off pulling image "nowhere.example/x:1"'
    )
    assert cluster.left() == []


@pytest.mark.slow
def test_pods_without_a_place_are_given_up_with_the_scheduler_s_words(cluster, tmp_path):
    job = begin(tmp_path, node_selector="disk=tape", queue_timeout_s=0.5)
    ending = job.wait(60)
    assert ending.reason == (
        "not all pods started within 0.5 s; pod 0 of 2 waits: Unschedulable: 0/4 nodes are available: "
        "4 node(s) didn't match Pod's node affinity/selector."
    )
    assert cluster.left() == []


def program(tmp_path, text):
    """What the pods run instead of Python."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


ONE_FAILS = """
[ "$JOB_COMPLETION_INDEX" = 1 ] && echo "no luck" && exit 3
trap 'echo "told to end"; exit 1' TERM
while true; do sleep 0.05; done
"""


@pytest.mark.slow
def test_pods_that_do_not_notice_are_told_to_end_and_heard(cluster, tmp_path):
    ending = begin(tmp_path, KubernetesTimeouts(exit_grace_s=0.3), python=program(tmp_path, ONE_FAILS)).wait(60)
    host = cluster.pod(1).pod["spec"]["nodeName"]
    assert ending.outcome == "failed"
    assert ending.reason == f"node 1 ({host}) is gone: its container ended with status 3"
    assert ending.log_tail == ("pod 0: told to end", "pod 1: no luck")
    assert cluster.left() == []


@pytest.mark.slow
def test_pods_that_never_end_are_ended_after_the_trial_s_time(cluster, tmp_path):
    ending = begin(tmp_path, KubernetesTimeouts(report_s=0.2), python=program(tmp_path, "exec sleep 60")).wait(0.2)
    assert ending.outcome == "timeout"
    assert cluster.left() == []


@pytest.mark.slow
def test_an_api_that_is_away_for_a_while_costs_nothing(cluster, tmp_path):
    timeouts = KubernetesTimeouts(retry_pause_s=0.05)
    job = begin(tmp_path, timeouts, python=program(tmp_path, "sleep 0.3; echo here I was"))
    cluster.failures |= {"pods": 8, "log": 2}
    ending = job.wait(60)
    assert cluster.failures == {"pods": 0, "log": 0}
    assert ending.reason == "node 0 left no report"
    assert ending.log_tail == ("pod 0: here I was", "pod 1: here I was")
    assert cluster.left() == []


@pytest.mark.slow
def test_a_cancelled_job_leaves_nothing_and_is_not_found_again(cluster, tmp_path):
    job = begin(tmp_path, node_selector="disk=tape")
    site, asked = KubernetesSite(), TrialRequest(CASE, (), tmp_path / "sweep" / "00-0123abcd")
    assert site.reattach(asked, job.handle) is not None
    assert {kind for kind, _ in cluster.left()} == {"configmaps", "services", "jobs", "pods"}
    job.cancel()
    assert cluster.left() == []
    assert site.reattach(asked, job.handle) is None
    assert site.reattach(asked, "../secrets") is None


@pytest.mark.slow
def test_whoever_deletes_the_job_deletes_all_of_it(cluster, tmp_path):
    """A harness that was killed and never resumed leaves the job to its time to live."""
    job = begin(tmp_path, node_selector="disk=tape")
    cluster.delete("jobs", job.handle)
    for kubelet in cluster.kubelets.values():
        kubelet.join(TERMINATION_GRACE_S)
    assert cluster.left() == []


@pytest.mark.slow
def test_a_refusal_is_one_line_and_holds_no_token(cluster, tmp_path, monkeypatch):
    token = "sha256~wrong-and-secret"
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path / "other", token)))
    with pytest.raises(SiteError) as caught:
        KubernetesSite().warm(())
    assert str(caught.value) == (
        f"kubernetes: request to list jobs: {cluster.address} answered 401 Unauthorized: Unauthorized"
    )


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line(tmp_path, cluster, monkeypatch):
    cluster.server.shutdown()
    cluster.server.server_close()
    message = r"^kubernetes: request to list jobs: http://127.0.0.1:\d+ did not answer \(\w+\)$"
    with pytest.raises(SiteError, match=message):
        KubernetesSite(timeouts=KubernetesTimeouts(retry_pause_s=0.01)).warm(())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SiteError, match="set KUBECONFIG") as caught:
        KubernetesSite().warm(())
    assert "\n" not in str(caught.value)
    (tmp_path / "none").write_text("token: [secret")
    with pytest.raises(SiteError, match="kubeconfig") as caught:
        KubernetesSite().warm(())
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_another_namespace_is_asked_by_its_name(cluster):
    with pytest.raises(SiteError, match='answered 404 Not Found: namespaces "other" not found'):
        KubernetesSite(KubernetesOptions(namespace="other")).warm(())


def client_of(url: str, namespace: str, token: str = "sha256~secret") -> KubernetesClient:
    from kubernetes import client

    configuration = client.Configuration(host=url, api_key={"authorization": f"Bearer {token}"})
    configuration.retries = False
    return KubernetesClient(configuration, namespace, KubernetesTimeouts(retry_pause_s=30))


def test_a_request_that_the_client_refuses_is_neither_sent_nor_repeated():
    with pytest.raises(SiteError, match=r"list jobs: was not sent, because it is not valid: \w+: Input"):
        client_of("http://127.0.0.1:9", namespace=5).check()
    with pytest.raises(SiteError, match=r"because it is not valid: ValueError$"):
        client_of("http://127.0.0.1:9", "default", token="two\nlines").check()


def test_an_answer_of_another_server_is_no_silence(tmp_path):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(SiteError, match="answered no JSON; name an API server in the kubeconfig"):
            client_of(f"http://127.0.0.1:{server.server_port}", "default").check()
        server.shutdown()
