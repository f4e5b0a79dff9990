"""The times of a job's cores, by the numbers that the kernel and lxcfs give them."""

from __future__ import annotations

import pytest

from bench.telemetry.probes.host.cores import (
    CoreReader,
    CoreTimes,
    UnknownCores,
    parse_core_list,
    parse_core_times,
    sum_core_times,
)

# Columns: user nice system idle iowait irq softirq steal guest guest_nice. Core 1 is offline.
STAT = """\
cpu  660 1 77 3500 50 2 3 9 30 0
cpu0 100 1 20 1000 50 2 3 7 30 0
cpu2 200 0 40 900 0 0 0 0 0 0
cpu3 300 0 10 800 0 0 0 2 0 0
intr 12345 0 1
"""
LXCFS_STAT = """\
cpu  500 0 50 1700 0 0 0 0 0 0
cpu0 200 0 40 900 0 0 0 0 0 0
cpu1 300 0 10 800 0 0 0 0 0 0
"""


def busy(*cores, text=STAT, container=None):
    return sum_core_times(parse_core_times(text, 1), cores, container).busy_s


def test_guests_count_once_and_waiting_for_disks_or_the_hypervisor_is_not_busy():
    assert sum_core_times(parse_core_times(STAT, 1), (0,)) == CoreTimes(100 + 1 + 20 + 2 + 3, 7, 1183)
    assert parse_core_times("cpu0 5 0 5 90\n", 1)[0] == CoreTimes(10, 0, 100), "kernels before 2.6 have four columns"


def test_a_core_is_found_by_its_number_where_others_are_offline():
    assert busy(2) == 240
    assert busy(2, 3) == 240 + 310
    assert busy() == 126 + 240 + 310


def test_lxcfs_lists_the_cores_of_a_container_from_0_on():
    assert busy(4, 5, text=LXCFS_STAT) == 240 + 310, "as many lines as cores"
    assert busy(5, text=LXCFS_STAT, container=(4, 5)) == 310
    assert busy(1, text=LXCFS_STAT, container=(1, 2)) == 240, "core 1 is the first one that lxcfs lists"


@pytest.mark.parametrize(
    ("text", "usable", "container", "reason"),
    [
        (STAT, (0, 1), None, "lists cores 0,2-3, the job may use 0-1"),
        (LXCFS_STAT, (4, 5, 6), None, "lists cores 0-1, the job may use 4-6"),
        (LXCFS_STAT, (0,), (0, 1, 2, 3), "which are the same is unknown"),
        ("cpu  0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n", (0,), None, "counts no time of cores"),
    ],
    ids=["a core went offline", "fewer lines than cores", "a view limited by a quota", "gVisor"],
)
def test_lines_that_cannot_be_assigned_are_unknown(text, usable, container, reason):
    with pytest.raises(UnknownCores, match=reason):
        busy(*usable, text=text, container=container)


@pytest.mark.parametrize(("mounted", "expected_s"), [(True, 2.4), (False, 3.1)])
def test_the_reader_notices_whose_file_it_is(tmp_path, mounted, expected_s):
    for folder in ("self", "1"):
        (tmp_path / folder).mkdir()
    mount = "103 87 0:52 /proc/stat /proc/stat rw,nosuid - fuse.lxcfs lxcfs rw\n" if mounted else ""
    (tmp_path / "self" / "mountinfo").write_text(f"87 86 0:5 / /proc rw - proc proc rw\n{mount}")
    (tmp_path / "1" / "status").write_text("Name:\tinit\nCpus_allowed_list:\t1,3\n")
    (tmp_path / "stat").write_text(LXCFS_STAT)
    samples = {sample.name: sample.value for sample in CoreReader((1,), tmp_path).read()}
    assert samples == {"cores": 1, "cpu_busy_s": pytest.approx(expected_s), "cpu_steal_s": 0}


def test_cores_without_times_keep_their_number(tmp_path):
    (tmp_path / "stat").write_text(LXCFS_STAT)
    count, unknown, _ = CoreReader((4, 5, 6), tmp_path).read()
    assert (count.value, unknown.value) == (3, None)
    assert unknown.reason


def test_lists_of_cores_are_read_as_the_kernel_writes_them():
    assert parse_core_list("0-2,8\n") == (0, 1, 2, 8)
