"""Whose a process is: by a table of processes, and by what this machine shows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.host.ownership import (
    FOLDER_VARIABLE,
    Ownership,
    ProcessFacts,
    TrialProcessIds,
    holders_environment,
    judge,
    read_facts,
    starter_environment,
)

HARNESS, STARTER, RANK = 20, 30, 40
TRIAL = TrialProcessIds("/trial", STARTER, frozenset({RANK, 70}), earlier=frozenset({45}), holders=frozenset({61}))
TABLE = {
    1: ProcessFacts("systemd", 0, 1),
    10: ProcessFacts("bash", 1, 10),
    HARNESS: ProcessFacts("python", 10, 10),
    STARTER: ProcessFacts("python", HARNESS, 10),
    31: ProcessFacts("python", STARTER, 10),
    RANK: ProcessFacts("python", 31, 40),
    41: ProcessFacts("pt_data_worker", RANK, 40),
    42: ProcessFacts("worker", 31, 42),
    43: ProcessFacts("mpirun", 31, 43),
    44: ProcessFacts("python", 43, 43),
    45: ProcessFacts("python", STARTER, 45),
    46: ProcessFacts("python", 45, 45),
    50: ProcessFacts("python", 10, 10),
    60: ProcessFacts("slurmstepd", 1, 60),
    61: ProcessFacts("dask worker", 60, 61),
    62: ProcessFacts("python", 61, 61),
    70: ProcessFacts("python", 60, 70),
    71: ProcessFacts("python", 70, 71, "/trial"),
    72: ProcessFacts("python", 1, 999, "/trial"),
    73: ProcessFacts("python", 1, 70),
    80: ProcessFacts("python", 1, 80, "/trial-before"),
    90: ProcessFacts("", 0, 90),
}


def test_the_id_of_an_earlier_process_may_be_another_s_by_now():
    reused = {**TABLE, 45: ProcessFacts("pt_data_worker", RANK, 40, "/trial")}
    assert judge(45, reused, TRIAL).ours is True
    left = {**TABLE, 45: ProcessFacts("python", STARTER, 45, "/trial-before")}
    assert judge(45, left, TRIAL) == Ownership(False, "left by an earlier trial")


@pytest.mark.parametrize(
    ("pid", "ours", "relation"),
    [
        (RANK, True, "a rank"),
        (41, True, "started by a rank, process 40"),
        (42, True, "started by the trial"),
        (44, True, "started by the trial"),
        (45, False, "left by an earlier trial"),
        (46, False, "left by an earlier trial"),
        (50, False, "started by bash, process 10"),
        (HARNESS, False, "started by bash, process 10"),
        (61, True, "holds the trial, as a worker of its Dask cluster"),
        (62, False, "started by dask worker, process 61"),
        (70, True, "a rank"),
        (71, True, "started by a rank, process 70"),
        (72, True, "started by a rank that has ended"),
        (73, True, "in a session of the trial"),
        (80, False, "of another trial, in /trial-before"),
        (90, False, "of another user, whose processes are hidden here"),
        (4711, None, "not visible from here: it has ended, or is in another PID namespace or container"),
    ],
    ids=[
        "rank",
        "worker of a data loader",
        "Dask's worker, which computes",
        "rank of mpirun",
        "of the trial before",
        "child of one of the trial before",
        "the user's own program in the harness's session",
        "the harness",
        "worker of a Dask cluster that holds the ranks",
        "what another task of that worker has started",
        "rank of srun",
        "child of a rank of srun",
        "orphan of a rank with its variables",
        "orphan in the session of a rank",
        "orphan of another trial",
        "another user's",
        "the number of a process outside of this container",
    ],
)
def test_a_process_belongs_to_the_trial_by_tree_session_and_environment(pid, ours, relation):
    assert judge(pid, TABLE, TRIAL) == Ownership(ours, relation)


def test_the_name_of_a_folder_or_a_parent_is_shown_on_one_line_and_cut():
    table = {5: ProcessFacts("x", 4, 5, "/a\n\x1b[31m" + "b" * 5000), 4: ProcessFacts("y\n" * 500, 0, 4)}
    for pid in (5, 4):
        relation = judge(pid, table, TRIAL).relation
        assert relation.isprintable()
        assert len(relation) < 200
    folderless = {**table, 5: ProcessFacts("x", 4, 5)}
    assert len(judge(5, folderless, TRIAL).relation) < 200


def test_what_a_starter_says_of_itself_is_read_back_and_nonsense_is_not():
    env = starter_environment(30, [46, 45])
    assert TrialProcessIds.read(env, "/t", frozenset({1})) == TrialProcessIds(
        "/t", 30, frozenset({1}), frozenset({45, 46})
    )
    env |= holders_environment([61])
    assert TrialProcessIds.read(env, "/t", frozenset()).holders == {61}
    broken = dict.fromkeys(env, "12x,-4,,")
    assert TrialProcessIds.read(broken, "/t", frozenset()) == TrialProcessIds("/t")
    assert TrialProcessIds.read({}, "/t", frozenset()) == TrialProcessIds("/t")


def test_a_loop_of_parents_that_reused_ids_may_show_ends():
    table = {5: ProcessFacts("a", 6, 5), 6: ProcessFacts("b", 5, 6)}
    assert judge(5, table, TRIAL) == Ownership(False, "started by b, process 6")


@pytest.mark.slow
def test_this_machine_shows_the_ancestors_the_session_and_the_folder_of_a_process(tmp_path):
    child = subprocess.Popen(["sleep", "60"], env={FOLDER_VARIABLE: str(tmp_path)}, start_new_session=True)
    try:
        known = read_facts(child.pid)
        assert (known[child.pid].name, known[child.pid].parent) == ("sleep", os.getpid())
        assert known[child.pid].session == child.pid
        assert os.getppid() in known
        assert judge(child.pid, known, TrialProcessIds("/other", ranks=frozenset({os.getppid()}))).ours
        assert judge(child.pid, known, TrialProcessIds(str(tmp_path))).ours
        assert judge(child.pid, known, TrialProcessIds("/other")) == Ownership(
            False, f"of another trial, in {tmp_path}"
        )
    finally:
        child.kill()
        child.wait()
    assert read_facts(child.pid) == {}


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31, 2**63])
def test_no_number_of_a_process_is_too_large_to_be_looked_up(pid):
    assert read_facts(pid) == {}


@pytest.mark.slow
def test_the_leader_of_a_session_is_known_where_the_parent_is_gone():
    program = (
        "import os, subprocess, sys, time\n"
        "if os.fork(): time.sleep(60)\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
        "os._exit(0)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        orphan = int(leader.stdout.readline())
        trial = TrialProcessIds("/trial", ranks=frozenset({leader.pid}))
        assert judge(orphan, read_facts(orphan), trial).ours
        assert not judge(orphan, read_facts(orphan), TrialProcessIds("/trial", ranks=frozenset({2**22 + 1}))).ours
    finally:
        os.killpg(leader.pid, 9)
        leader.wait()
        leader.stdout.close()


@pytest.mark.slow
def test_in_a_pid_namespace_the_numbers_of_its_host_are_unknown_and_not_strangers():
    """As in a container, where NVML may list the process ids of the host."""
    program = (
        "import os, sys; from bench.host.ownership import TrialProcessIds, judge, read_facts\n"
        "trial = TrialProcessIds('/trial', ranks=frozenset({os.getpid()}))\n"
        "for pid in (int(sys.argv[1]), os.getpid()): print(judge(pid, read_facts(pid), trial).ours)"
    )
    outside = subprocess.Popen(["sleep", "60"])
    try:
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, str(outside.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare (util-linux)")
    finally:
        outside.kill()
        outside.wait()
    if done.returncode:
        pytest.skip(f"no PID namespace can be made here: {done.stderr.strip()}")
    assert done.stdout.split() == ["None", "True"]
