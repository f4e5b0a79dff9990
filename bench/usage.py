"""What a rank's own process uses, and of which device."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def reset_memory_peak() -> None:
    """The peak counts from here: a forked process starts with its parent's (Linux; elsewhere it stays)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def memory_peak_bytes() -> int:
    """The most that was resident in this process, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: str) -> str:
    """``cpu``, or ``cuda:0 (NVIDIA …)``."""
    if device == "cpu":
        return "cpu"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def device_uuid(device: str) -> str | None:
    """The GPU's UUID as NVML writes it; ``None`` on a CPU."""
    if device == "cpu":
        return None
    import torch

    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
