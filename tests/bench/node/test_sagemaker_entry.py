"""What a SageMaker container sets before its agent starts, and what it reports."""

from __future__ import annotations

from bench.core.records import RankFailure
from bench.node import sagemaker_entry


def test_a_host_reads_its_number_unless_it_is_set():
    resources = {"hosts": ["algo-1", "algo-2"], "current_host": "algo-2", "network_interface_name": "eth1"}
    variables = sagemaker_entry.host_variables(resources, {})
    assert variables == {"SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2", "SCALING_INTERFACE": "eth1"}
    assert sagemaker_entry.host_variables(resources, {"SCALING_INTERFACE": "eth0"}).get("SCALING_INTERFACE") is None


def test_a_host_reports_the_first_failure(tmp_path):
    assert sagemaker_entry.failure_reason(tmp_path) == "a process failed without reporting an error; see the log"
    for rank, at in ((0, 2.0), (1, 1.0)):
        failure = RankFailure(role="rank", rank=rank, host="h", error=f"ValueError: {rank}", at=at)
        (tmp_path / f"failure-rank-{rank}.json").write_text(failure.model_dump_json())
    assert sagemaker_entry.failure_reason(tmp_path) == "rank 1: ValueError: 1"
    (tmp_path / "00-0123abcd").mkdir()
    failure = RankFailure(role="rank", rank=3, host="h", error="of the last trial", at=0.5)
    (tmp_path / "00-0123abcd" / "failure-rank-3.json").write_text(failure.model_dump_json())
    assert sagemaker_entry.failure_reason(tmp_path) == "rank 3: of the last trial"
