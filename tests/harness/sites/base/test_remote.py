"""What a trial on several nodes came to, from what the nodes left."""

from __future__ import annotations

from pathlib import Path

from bench.core.exit_report import ExitReport, FailedProcess, NodeReport
from bench.core.machine import NodeFacts
from bench.rank.progress import Progress
from harness.sites.base.remote import LostNode, gather_result, rendezvous_port
from tests.support.builders import make_case, make_record

CASE = make_case(ranks=4, ranks_per_node=2, site="hosts")
WELL = ExitReport(timed_out=False, timeout_s=9)


def facts(node: int) -> NodeFacts:
    return NodeFacts(
        node=node, host=f"n{node}", system="Linux", cpu="c", cores=2, memory_bytes=1, gpus=(), python="3", packages={}
    )


def leave(
    folder: Path, node: int, exit_report: ExitReport | None = WELL, problem: str | None = None, records: bool = True
):
    end = NodeReport(facts=facts(node), exit_report=exit_report, problem=problem)
    (folder / end.file).write_text(end.model_dump_json())
    for rank in (2 * node, 2 * node + 1) if records else ():
        (folder / f"record-{rank}.json").write_text(make_record(rank, 4).model_dump_json())


def test_all_nodes_well(tmp_path):
    leave(tmp_path, 0)
    leave(tmp_path, 1)
    ending = gather_result(tmp_path, CASE)
    assert (ending.outcome, [record.rank for record in ending.ranks]) == ("ok", [0, 1, 2, 3])
    assert [node.host for node in ending.nodes] == ["n0", "n1"]


def test_who_ended_first_is_the_cause_whichever_node_it_was_on(tmp_path):
    later = FailedProcess("rank", 0, 1, Path("/there/rank-0.log"), at=20.0)
    first = FailedProcess("rank", 3, 5, Path("/there/rank-3.log"), at=10.0)
    (tmp_path / "rank-3.log").write_text("the end\n")
    leave(tmp_path, 0, ExitReport(timed_out=False, timeout_s=9, failed=(later,)), records=False)
    leave(tmp_path, 1, ExitReport(timed_out=False, timeout_s=9, failed=(first,)), records=False)
    ending = gather_result(tmp_path, CASE)
    assert ending.reason == "rank 3 exited with status 5; see the last lines of its log"
    assert "rank 3: the end" in ending.log_tail, "its log is read here, whatever its path was there"


def test_a_process_that_ended_says_more_than_the_time_that_others_waited(tmp_path):
    leave(tmp_path, 0, ExitReport(timed_out=True, timeout_s=9), records=False)
    leave(
        tmp_path,
        1,
        ExitReport(timed_out=False, timeout_s=9, failed=(FailedProcess("rank", 3, -9, Path("x")),)),
        records=False,
    )
    assert gather_result(tmp_path, CASE).reason == "rank 3 was killed by SIGKILL"


def test_stacks_of_all_nodes_are_kept(tmp_path):
    for node in (0, 1):
        told = ExitReport(timed_out=True, timeout_s=9, stacks={f"rank {2 * node}": ["in step"]})
        leave(tmp_path, node, told, records=False)
    ending = gather_result(tmp_path, CASE)
    assert ending.outcome == "timeout"
    assert ending.log_tail == ("rank 0: in step", "rank 2: in step")


def test_a_lost_node_is_the_cause_and_its_ranks_are_told(tmp_path):
    notes = Progress(tmp_path, 2)
    notes.enter("measured step")
    notes.count_steps(lambda: None)()
    leave(
        tmp_path,
        0,
        ExitReport(timed_out=False, timeout_s=9, failed=(FailedProcess("rank", 0, 1, Path("x")),)),
        records=False,
    )
    ending = gather_result(
        tmp_path, CASE, [LostNode(1, "n7", "Slurm says NODE_FAIL")], log_tail=["slurmctld: no answer"]
    )
    said = "node 1 (n7) is gone: Slurm says NODE_FAIL; last seen: rank 2 in measured step 1"
    assert (ending.outcome, ending.reason) == ("failed", said)
    assert ending.log_tail[-1] == "slurmctld: no answer"


def test_a_node_that_could_not_begin_says_why(tmp_path):
    leave(tmp_path, 0, ExitReport(timed_out=True, timeout_s=9), records=False)
    leave(tmp_path, 1, None, "no interface 'ib0'", records=False)
    assert gather_result(tmp_path, CASE).reason == "node 1 (n1): no interface 'ib0'"


def test_a_node_that_said_nothing_is_named(tmp_path):
    leave(tmp_path, 0)
    (tmp_path / "node-1.json").write_text('{"facts": ')
    ending = gather_result(tmp_path, CASE, no_report_reason="the job vanished")
    assert (ending.outcome, ending.reason) == ("failed", "node 1 left no report: the job vanished")


def test_ports_differ_from_trial_to_trial_and_not_from_node_to_node():
    assert rendezvous_port("a") == rendezvous_port("a")
    assert len({rendezvous_port(str(number)) for number in range(50)}) > 45
