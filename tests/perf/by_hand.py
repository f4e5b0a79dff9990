"""The script by hand and its usual launchers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "scripts" / "minimal.py"


def script(*arguments: object) -> list[str]:
    """``python minimal.py …``; what the arguments are is said there."""
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def torchrun(ranks: int, *arguments: object) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*launcher, *script(*arguments)[1:]]


def horovodrun(ranks: int, *arguments: object) -> list[str]:
    launcher = [str(Path(sys.executable).parent / "horovodrun"), "-np", str(ranks), "--gloo"]
    return [*launcher, "--network-interfaces", "lo", *script(*arguments)]


def seconds_told(output: str) -> list[float]:
    """How long the timed loop took on each rank. Launchers put words before a rank's line, or another rank's line."""
    return [float(number) for number in re.findall(r'"seconds": ([-+.e\d]+)', output)]


def rate(ranks: int, backend: str, model: str, steps: int, warmup: int, batch: int, data: object = "") -> float:
    """Samples per second of the script's slowest rank; ranks are started directly, as torchrun and horovodrun do."""
    arguments = (backend, model, steps, warmup, batch, data)
    if backend == "horovod":
        commands = [(horovodrun(ranks, *arguments), {})]
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        shared = {"WORLD_SIZE": str(ranks), "GLOO_SOCKET_IFNAME": "lo", **meeting}
        commands = [(script(*arguments), {"RANK": str(rank), **shared}) for rank in range(ranks)]
    started = [
        subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, env in commands
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    seconds = [number for out, _ in outputs for number in seconds_told(out)]
    assert len(seconds) == ranks, outputs
    return steps * batch / max(seconds)
