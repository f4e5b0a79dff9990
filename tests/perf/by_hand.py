"""The script by hand and its usual launchers."""

from __future__ import annotations

import re
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
