"""How many processes the kernel has killed for lack of memory, of this process's control group or of the machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.host.control_groups import own_groups

NO_LIMIT_BYTES = 2**60
"""Version 1 writes a number above for a group without a limit."""


class MemoryKills(NamedTuple):
    """The number of such kills until now."""

    kills: int
    """In this process's control group where that is counted, else on the whole machine; 0 where neither is."""
    limit_bytes: int | None = None
    """The tightest memory limit among the control groups; ``None``: there is none, or it is not counted per group."""

    @property
    def limit_description(self) -> str:
        """``the memory limit of its control group, 2 GiB``; empty without a limit."""
        return (
            ""
            if self.limit_bytes is None
            else f"the memory limit of its control group, {self.limit_bytes / 2**30:.3g} GiB"
        )


def read_memory_kills(root: Path = Path("/")) -> MemoryKills:
    """The kills until now, by the kernel's counters.

    Args:
        root: The folder that ``/`` is.
    """
    groups: list[Path] = []
    with suppress(OSError, ValueError, LookupError):
        groups = own_groups("memory", root)
    for group in groups[:1]:
        for name in ("memory.events", "memory.oom_control"):
            if (count := _read_count(group / name)) is not None:
                limits = [limit for limit in map(_read_limit, groups) if limit is not None]
                return MemoryKills(count, min(limits, default=None))
    return MemoryKills(_read_count(root / "proc/vmstat") or 0)


def _read_count(path: Path) -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = path.read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    return None


def _read_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limit = int((group / name).read_text())
            return limit if limit < NO_LIMIT_BYTES else None
    return None
