"""Kills for lack of memory are counted in the control group of the trial, where that is counted."""

from __future__ import annotations

import pytest

from bench.host.memory_kills import MemoryKills, read_memory_kills

V2 = ("0::/job\n", "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
V1 = ("4:memory:/job\n0::/\n", "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")


@pytest.fixture
def machine(tmp_path):
    def make(groups: str, mounts: str, files: dict[str, str]):
        for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_version_2_counts_the_group_and_tells_the_tightest_limit(machine):
    files = {
        "proc/vmstat": "oom_kill 9\n",
        "sys/fs/cgroup/job/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
        "sys/fs/cgroup/job/memory.max": "max\n",
        "sys/fs/cgroup/memory.max": str(2 * 2**30),
    }
    kills = read_memory_kills(machine(*V2, files))
    assert kills == MemoryKills(2, 2 * 2**30), "another job's kill on the same machine is not counted"
    assert kills.limit_description == "the memory limit of its control group, 2 GiB"


def test_version_1_counts_the_group_and_has_no_limit_where_there_is_none(machine):
    files = {
        "proc/vmstat": "oom_kill 9\n",
        "sys/fs/cgroup/memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert read_memory_kills(machine(*V1, files)) == MemoryKills(4, None)


@pytest.mark.parametrize(("vmstat", "count"), [("pgfault 1\noom_kill 9\n", 9), ("pgfault 1\n", 0)])
def test_elsewhere_those_of_the_machine_are_counted(machine, vmstat, count):
    assert read_memory_kills(machine("", "", {"proc/vmstat": vmstat})) == MemoryKills(count)
