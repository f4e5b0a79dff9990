"""SageMaker, by the real command: jobs through moto's API, their own entry command on two hosts in namespaces."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

from bench.rank.progress import read_progress
from harness.store.opening import open_store
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks
from tests.support.namespaces import cluster, unavailable_reason
from tests.support.sagemaker_hosts import BILLED_S, BUCKET, KEY_ID, ML, SECRET, TOKEN, SageMaker, sagemaker_on

pytestmark = pytest.mark.skipif(
    unavailable_reason() is not None, reason=f"no hosts can be made: {unavailable_reason()}"
)

SUITE = """
backends = ["ddp", "horovod"]
workloads = ["mnist"]
nodes = [2]
repeats = 1
warmup = 2
steps = 5
telemetry = "off"
decompose = false
own_cost = false
roofline = false
[options.mnist]
source = ["digits"]
[options.sagemaker]
role = "arn:aws:iam::123456789012:role/trains"
image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311-ubuntu22.04-sagemaker"
s3 = "s3://our-bucket/benchmarks"
price_per_hour = 0.23
poll_s = 0.1
"""
SWEEP = ("sweep", "sagemaker.toml", "--site", "sagemaker")
PATIENCE_S = 180.0
LONG = (*SWEEP, "--backends", "ddp", "--steps", "20000")


@pytest.fixture(scope="module")
def hosts():
    with cluster(["algo-1", "algo-2"], private=(ML,)) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def service(hosts):
    with sagemaker_on(hosts) as started:
        yield started


@pytest.fixture
def asked(harness, service):
    """The harness with AWS's settings for the service, and nothing of the tests before."""
    (harness.folder / "sagemaker.toml").write_text(SUITE)
    harness.env.update(service.env)
    service.requests.clear()
    service.stops.clear()
    for node in service.nodes.values():
        shutil.rmtree(node.outside(f"{ML}/output"), ignore_errors=True)
    yield harness
    for node in service.nodes.values():
        node.kill_all()
    harness.nothing_left()


def until(hosts, condition, process=None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s"
        time.sleep(0.05)


def stepping(hosts) -> bool:
    """Whether every host's rank is in its measured window."""
    folders = [folder for node in hosts.values() for folder in node.outside(f"{ML}/output/data").glob("*/")]
    seen = [one for folder in folders for one in read_progress(folder)]
    return len(seen) == len(hosts) and all("measured" in one.description for one in seen)


def trials_of(harness):
    store = open_store(str(harness.folder / ".runs" / "results.sqlite"), create=False)
    try:
        return store.trials(store.sweep_ids()[-1])
    finally:
        store.close()


def all_text(folder) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_ranks_train_on_two_instances_and_their_records_return(asked, service: SageMaker, hosts, tmp_path_factory):
    with gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as gpu:
        service.image_env.update(gpu)
        done = asked.run(*SWEEP, "--json", "--telemetry", "always")
        service.image_env.clear()
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert {(cell["backend"], cell["outcome"], cell["same_work"]["verdict"]) for cell in cells} == {
        ("ddp", "ok", "same"),
        ("horovod", "ok", "same"),
    }
    for trial in trials_of(asked):
        assert [record.host for record in trial.ranks] == [facts.host for facts in trial.nodes] == ["algo-1", "algo-2"]
        assert 0 < trial.cost < BILLED_S * 2 * 0.23 / 3600
    assert [request["ResourceConfig"]["InstanceCount"] for request in service.requests] == [2], "both in one job"
    check_stored_owners(asked.folder, gpu)
    # Keys are AWS's own business: not in the store, the page, the folder, what was said or what was sent as a case.
    sent = b"".join(
        service.objects.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
        for found in service.objects.list_objects_v2(Bucket=BUCKET)["Contents"]
    )
    everything = all_text(asked.folder) + sent + (done.stdout + done.stderr + json.dumps(service.requests)).encode()
    assert b"trains" in everything
    for secret in (KEY_ID, SECRET, TOKEN):
        assert secret.encode() not in everything


def test_a_host_that_is_gone_is_named_and_the_job_s_own_reason_told(asked, hosts):
    process = asked.start(*LONG)
    until(hosts, lambda: stepping(hosts), process)
    hosts["algo-2"].kill_all()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4
    (trial,) = trials_of(asked)
    assert trial.outcome == "failed"
    assert trial.reason is not None
    assert trial.reason.startswith("node 1 (algo-2) is gone: SageMaker reports AlgorithmError:")
    assert "rank 1 in measured step" in trial.reason
    assert trial.cost is not None
    assert not any(line.startswith("CloudWatch") for line in trial.log_tail), "its log was to be had"


def test_an_interrupt_stops_the_job(asked, service: SageMaker, hosts):
    process = asked.start(*LONG)
    until(hosts, lambda: stepping(hosts), process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert service.stops == [service.requests[0]["TrainingJobName"]]
    until(hosts, service.at_rest)
    assert not any(node.processes() for node in hosts.values())


def test_a_job_that_ended_while_nobody_looked_is_found_again(asked, service: SageMaker, hosts):
    process = asked.start(*SWEEP, "--backends", "ddp", "--steps", "300")
    until(hosts, lambda: stepping(hosts), process)
    process.kill()
    process.communicate()
    until(hosts, service.at_rest)
    done = asked.run("sweep", "--resume", "--site", "sagemaker", "--json")
    assert done.returncode == 0, done.stderr
    (trial,) = trials_of(asked)
    assert (trial.outcome, len(trial.ranks)) == ("ok", 2)
    assert len(service.requests) == 1, "it was not run again"
