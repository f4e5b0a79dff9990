"""The result of a trial on several nodes, from what their agents left."""

from __future__ import annotations

from pathlib import Path

from bench.core.exit_report import ExitReport, FailedProcess, NodeReport
from bench.core.machine import NodeFacts
from bench.rank.progress import Progress
from harness.sites.base.remote import LostNode, gather_result, rendezvous_port
from tests.support.builders import make_case, make_record

CASE = make_case(ranks=4, ranks_per_node=2, site="hosts")
ENDED = ExitReport(timed_out=False, timeout_s=9)


def facts(node: int) -> NodeFacts:
    return NodeFacts(
        node=node, host=f"n{node}", system="Linux", cpu="c", cores=2, memory_bytes=1, gpus=(), python="3", packages={}
    )


def leave(
    folder: Path,
    node: int,
    exit_report: ExitReport | None = ENDED,
    problem: str | None = None,
    records: bool = True,
):
    report = NodeReport(facts=facts(node), exit_report=exit_report, problem=problem)
    (folder / report.file).write_text(report.model_dump_json())
    for rank in (2 * node, 2 * node + 1) if records else ():
        (folder / f"record-{rank}.json").write_text(make_record(rank, 4).model_dump_json())


def test_the_records_of_all_nodes_are_gathered(tmp_path):
    leave(tmp_path, 0)
    leave(tmp_path, 1)
    result = gather_result(tmp_path, CASE)
    assert (result.outcome, [record.rank for record in result.ranks]) == ("ok", [0, 1, 2, 3])
    assert [node.host for node in result.nodes] == ["n0", "n1"]


def test_the_first_failure_is_the_cause_on_whichever_node(tmp_path):
    later = FailedProcess("rank", 0, 1, Path("/there/rank-0.log"), at=20.0)
    first = FailedProcess("rank", 3, 5, Path("/there/rank-3.log"), at=10.0)
    (tmp_path / "rank-3.log").write_text("the end\n")
    leave(tmp_path, 0, ExitReport(timed_out=False, timeout_s=9, failed=(later,)), records=False)
    leave(tmp_path, 1, ExitReport(timed_out=False, timeout_s=9, failed=(first,)), records=False)
    result = gather_result(tmp_path, CASE)
    assert result.reason == "rank 3 exited with status 5; see the last lines of its log"
    assert "rank 3: the end" in result.log_tail, "its log is read here, whatever its path was there"


def test_a_failure_counts_for_more_than_a_timeout_elsewhere(tmp_path):
    leave(tmp_path, 0, ExitReport(timed_out=True, timeout_s=9), records=False)
    leave(
        tmp_path,
        1,
        ExitReport(timed_out=False, timeout_s=9, failed=(FailedProcess("rank", 3, -9, Path("x")),)),
        records=False,
    )
    assert gather_result(tmp_path, CASE).reason == "rank 3 was killed by SIGKILL"


def test_the_stacks_of_all_nodes_are_kept(tmp_path):
    for node in (0, 1):
        exit_report = ExitReport(timed_out=True, timeout_s=9, stacks={f"rank {2 * node}": ["in step"]})
        leave(tmp_path, node, exit_report, records=False)
    result = gather_result(tmp_path, CASE)
    assert result.outcome == "timeout"
    assert result.log_tail == ("rank 0: in step", "rank 2: in step")


def test_a_lost_node_is_the_cause_and_its_ranks_are_named(tmp_path):
    notes = Progress(tmp_path, 2)
    notes.enter("measured step")
    notes.count_steps(lambda: None)()
    leave(
        tmp_path,
        0,
        ExitReport(timed_out=False, timeout_s=9, failed=(FailedProcess("rank", 0, 1, Path("x")),)),
        records=False,
    )
    result = gather_result(
        tmp_path, CASE, [LostNode(1, "n7", "Slurm says NODE_FAIL")], log_tail=["slurmctld: no answer"]
    )
    reason = "node 1 (n7) is gone: Slurm says NODE_FAIL; last seen: rank 2 in measured step 1"
    assert (result.outcome, result.reason) == ("failed", reason)
    assert result.log_tail[-1] == "slurmctld: no answer"


def test_the_problem_of_a_node_that_started_no_rank_is_the_reason(tmp_path):
    leave(tmp_path, 0, ExitReport(timed_out=True, timeout_s=9), records=False)
    leave(tmp_path, 1, None, "no interface 'ib0'", records=False)
    assert gather_result(tmp_path, CASE).reason == "node 1 (n1): no interface 'ib0'"


def test_a_node_without_a_report_is_named(tmp_path):
    leave(tmp_path, 0)
    (tmp_path / "node-1.json").write_text('{"facts": ')
    result = gather_result(tmp_path, CASE, no_report_reason="the job vanished")
    assert (result.outcome, result.reason) == ("failed", "node 1 left a report that can't be read: the job vanished")


def test_one_agent_may_report_for_all_nodes(tmp_path):
    leave(tmp_path, 0)
    for rank in (2, 3):
        (tmp_path / f"record-{rank}.json").write_text(make_record(rank, 4).model_dump_json())
    assert gather_result(tmp_path, CASE).reason == "node 1 left no report"
    assert gather_result(tmp_path, CASE, agents=1).outcome == "ok"


def test_ports_differ_from_trial_to_trial_and_not_from_node_to_node():
    assert rendezvous_port("a") == rendezvous_port("a")
    assert len({rendezvous_port(str(number)) for number in range(50)}) > 45
