"""The energy of the CPU packages, by RAPL's counters in ``/sys/class/powercap``.

A zone at the top of the tree is a CPU package (``package-0``, ``package-0-die-1``) or the whole platform (``psys``),
which includes the packages. Zones below are parts of a package, or its memory. The same package may be there twice,
through two interfaces of the kernel: ``intel-rapl:0`` and ``intel-rapl-mmio:0``. AMD's packages are in ``intel-rapl``
too. See ``Documentation/power/powercap/powercap.rst`` of the kernel.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from bench.core.telemetry import HOST, Sample

POWERCAP_FOLDER = Path("/sys/class/powercap")
ENERGY_QUANTITY = "cpu_energy_j"
RAPL_UPDATE_S = 0.001
"""How often the counters have new values: about every 1 ms, by Intel's Software Developer's Manual."""
TOP_ZONE = re.compile(r"(?P<interface>intel-rapl[\w-]*):\d+")


class PackageZone(NamedTuple):
    """The zone of a CPU package: its folder, and its name such as ``package-0``."""

    folder: Path
    name: str


def find_packages(folder: Path) -> tuple[list[PackageZone], str | None]:
    """The zones of the CPU packages, each package once; or none, and the reason.

    Args:
        folder: The folder that ``/sys/class/powercap`` is.
    """
    try:
        entries = sorted(folder.iterdir()) if folder.exists() else []
    except OSError as problem:
        return [], f"RAPL's counters can't be read: {problem.strerror}"
    by_interface: dict[str, list[PackageZone]] = {}
    others = []
    for entry in entries:
        if match := TOP_ZONE.fullmatch(entry.name):
            try:
                name = (entry / "name").read_text().strip()
            except OSError as problem:
                # Container runtimes mask these folders.
                return [], f"RAPL's counters can't be read: {problem.strerror}"
            if name.startswith("package"):
                by_interface.setdefault(match["interface"], []).append(PackageZone(entry, name))
            else:
                others.append(name)
    packages: list[PackageZone] = []
    for interface in sorted(by_interface, key=len):  # intel-rapl before its twins
        known = {zone.name for zone in packages}
        packages += [zone for zone in by_interface[interface] if zone.name not in known]
    if not packages and others:
        return [], f"RAPL counts {', '.join(others)} here, and no CPU package"
    return packages, None if packages else "no RAPL counters on this machine"


class RaplEnergy:
    """The energy of all CPU packages. Each counter wraps around at its own maximum.

    Args:
        folder: The folder that ``/sys/class/powercap`` is.
    """

    def __init__(self, folder: Path = POWERCAP_FOLDER) -> None:
        self.packages, self.reason = find_packages(folder)
        self.last: dict[PackageZone, int] = {}
        self.increase_uj = dict.fromkeys(self.packages, 0)

    def read(self) -> list[Sample]:
        """The energy since the first reading, in joules."""
        if self.reason:
            return [self._unknown(self.reason)]
        first = not self.last
        try:
            for zone in self.packages:
                now = int((zone.folder / "energy_uj").read_text())
                increase = now - self.last.get(zone, now)
                if increase < 0:
                    increase += int((zone.folder / "max_energy_range_uj").read_text())
                self.increase_uj[zone] += increase
                self.last[zone] = now
        except PermissionError:
            return [self._unknown("no permission to read RAPL's counters (root only by default)")]
        except (OSError, ValueError) as problem:
            return [self._unknown(f"RAPL's counters can't be read: {problem}")]
        # A package that is on draws watts, and its counter is renewed every millisecond.
        still = [zone.name for zone, increase in self.increase_uj.items() if not increase]
        if still and not first:
            return [self._unknown(f"RAPL's counter of {', '.join(still)} does not move here")]
        return [Sample(HOST, ENERGY_QUANTITY, sum(self.increase_uj.values()) / 1e6)]

    def _unknown(self, reason: str) -> Sample:
        return Sample(HOST, ENERGY_QUANTITY, None, reason)
