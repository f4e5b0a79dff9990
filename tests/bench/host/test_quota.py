"""CPU quotas in trees like ``/sys/fs/cgroup`` of both versions, seen from a machine and from a container."""

from __future__ import annotations

import pytest

from bench.host.quota import Throttling, read_cpu_quota, read_throttling
from bench.telemetry.probes.host.throttling import ThrottlingReader

V2_MOUNT = "31 24 0:27 {shown} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNTS = """\
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
33 30 0:29 {shown} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
38 30 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"""


class Machine:
    """A folder that stands for ``/``."""

    def __init__(self, root):
        self.root = root
        (root / "proc" / "self").mkdir(parents=True)

    def with_process(self, groups, mounts, shown="/"):
        (self.root / "proc" / "self" / "cgroup").write_text(groups)
        (self.root / "proc" / "self" / "mountinfo").write_text(mounts.format(shown=shown) + "\n")
        return self

    def with_group(self, path, **files):
        folder = self.root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(f"{text}\n")
        return self

    def quota(self):
        found = read_cpu_quota(self.root)
        return found and (found.cores, str(found.group.relative_to(self.root)))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_version_2_in_a_container_of_its_own_view(machine):
    machine.with_process("0::/\n", V2_MOUNT).with_group("", cpu__max="150000 100000")
    assert machine.quota() == (1.5, "sys/fs/cgroup")


def test_the_tightest_group_counts_of_equal_ones_the_innermost(machine):
    machine.with_process("0::/kubepods/pod7/main\n", V2_MOUNT)
    machine.with_group("kubepods", cpu__max="max 100000").with_group("kubepods/pod7", cpu__max="200000 100000")
    machine.with_group("kubepods/pod7/main", cpu__max="400000 100000")
    assert machine.quota() == (2, "sys/fs/cgroup/kubepods/pod7")
    machine.with_group("kubepods/pod7/main", cpu__max="100000 50000")
    assert machine.quota() == (2, "sys/fs/cgroup/kubepods/pod7/main")


V1_GROUPS = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/system.slice\n"


@pytest.mark.parametrize(
    ("shown", "folder"), [("/", "cpu,cpuacct/docker/abc"), ("/docker/abc", "cpu,cpuacct"), ("/other", "cpu,cpuacct")]
)
def test_version_1_wherever_the_container_sees_its_group(machine, shown, folder):
    machine.with_process(V1_GROUPS, V1_MOUNTS, shown)
    machine.with_group(folder, cpu__cfs_quota_us=25000, cpu__cfs_period_us=100000)
    assert machine.quota() == (0.25, f"sys/fs/cgroup/{folder}")
    machine.with_group(folder, cpu__cfs_quota_us=-1)
    assert machine.quota() is None


def test_a_group_outside_of_the_view_is_the_root_of_it(machine):
    machine.with_process("0::/../../outside\n", V2_MOUNT).with_group("", cpu__max="300000 100000")
    assert machine.quota()[0] == 3


@pytest.mark.parametrize("groups", ["", "0::/gone\n", "nonsense\n"])
def test_without_a_readable_limit_there_is_none(machine, groups):
    assert machine.with_process(groups, V2_MOUNT).quota() is None
    assert read_cpu_quota(machine.root / "none") is None


@pytest.mark.parametrize(
    "text",
    [
        "usage_usec 9\nnr_periods 519\nnr_throttled 401\nthrottled_usec 12500000\nnr_bursts 0\n",
        "nr_periods 519\nnr_throttled 401\nthrottled_time 12500000000\n",
    ],
    ids=["version 2", "version 1"],
)
def test_throttled_periods_are_counted(machine, text):
    machine.with_process("0::/\n", V2_MOUNT).with_group("", cpu__max="150000 100000", cpu__stat=text)
    assert read_throttling(machine.root / "sys/fs/cgroup") == Throttling(519, 401, 12.5)
    samples = {sample.name: sample.value for sample in ThrottlingReader(read_cpu_quota(machine.root)).read()}
    assert samples == {
        "cpu_quota_cores": 1.5,
        "cpu_periods": 519,
        "cpu_throttled_periods": 401,
        "cpu_throttled_s": 12.5,
    }


def test_without_a_quota_nothing_is_read():
    assert ThrottlingReader(None).read() == []


def test_a_kernel_that_does_not_count_says_so(tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 9\n")
    with pytest.raises(ValueError, match="does not count throttled periods"):
        read_throttling(tmp_path)
