"""RAPL's counters in trees like ``/sys/class/powercap``: CPU packages once, and nothing that includes them."""

from __future__ import annotations

import pytest

from bench.telemetry.probes.host.rapl import RaplEnergy

CORE_I7 = {
    "intel-rapl": "",
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "psys",
    "intel-rapl-mmio": "",
    "intel-rapl-mmio:0": "package-0",
    "dtpm": "",
}
EPYC = {"intel-rapl": "", "intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "package-1"}
XEON_AP = {"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1", "intel-rapl:0:0": "dram"}


def make_tree(folder, zones):
    for zone, name in zones.items():
        (folder / zone).mkdir(parents=True)
        if name:
            (folder / zone / "name").write_text(f"{name}\n")
            (folder / zone / "max_energy_range_uj").write_text("1000000000\n")
            count(folder, zone, 0)


def count(folder, zone, joules):
    (folder / zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")


def spend(folder, zones, joules):
    """Read, let each counter grow by its joules, and read again."""
    make_tree(folder, zones)
    energy = RaplEnergy(folder)
    assert energy.read()[0].value in (0, None)
    for zone, amount in joules.items():
        count(folder, zone, amount)
    (sample,) = energy.read()
    return sample


@pytest.mark.parametrize(
    ("zones", "joules", "total"),
    [
        (
            CORE_I7,
            dict.fromkeys(("intel-rapl:0:0", "intel-rapl:0:1"), 4) | {"intel-rapl:0": 10, "intel-rapl:1": 25},
            10,
        ),
        (CORE_I7, {"intel-rapl:0": 10, "intel-rapl-mmio:0": 10}, 10),
        (EPYC, {"intel-rapl:0": 10, "intel-rapl:0:0": 7, "intel-rapl:1": 30}, 40),
        (XEON_AP, {"intel-rapl:0": 10, "intel-rapl:1": 5, "intel-rapl:0:0": 3}, 15),
        ({"intel-rapl-mmio:0": "package-0"}, {"intel-rapl-mmio:0": 10}, 10),
    ],
    ids=["psys and parts", "mmio twin", "AMD, two packages", "two dies", "mmio alone"],
)
def test_each_package_counts_once(tmp_path, zones, joules, total):
    assert spend(tmp_path, zones, joules).value == pytest.approx(total)


def test_a_counter_that_never_moves_is_unknown(tmp_path):
    sample = spend(tmp_path, EPYC, {"intel-rapl:0": 10})
    assert sample.value is None
    assert sample.reason == "RAPL's counter of package-1 does not move here"


def test_psys_alone_is_not_the_energy_of_the_packages(tmp_path):
    sample = spend(tmp_path, {"intel-rapl:0": "psys"}, {"intel-rapl:0": 25})
    assert sample.reason == "RAPL counts psys here, and no CPU package"


def test_a_counter_wraps_around_at_its_own_maximum(tmp_path):
    make_tree(tmp_path, {"intel-rapl:0": "package-0"})
    (tmp_path / "intel-rapl:0" / "max_energy_range_uj").write_text("1000")
    count(tmp_path, "intel-rapl:0", 900e-6)
    energy = RaplEnergy(tmp_path)
    assert energy.read()[0].value == 0
    count(tmp_path, "intel-rapl:0", 50e-6)
    assert energy.read()[0].value == pytest.approx(150e-6)


def test_without_readable_counters_the_reason_is_said(tmp_path):
    assert RaplEnergy(tmp_path / "none").read()[0].reason == "no RAPL counters on this machine"
    # As in a container whose runtime masks the folder that the links lead to.
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked")
    assert RaplEnergy(tmp_path).read()[0].reason == "RAPL's counters can't be read: No such file or directory"
