"""What the measurement of a rank has to know of its process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from bench.core.records import RankRecord
from bench.rank.clock import Clock
from bench.rank.cuda_events import DeviceEvents
from bench.rank.progress import Progress


def _as_often_as_usual(times: int) -> AbstractContextManager[bool]:
    return nullcontext(True)


def _drop(record: RankRecord) -> None:
    return


class RankContext(NamedTuple):
    """A process that measures as a rank."""

    began_s: float
    """When the rank's own code began, on the node's monotonic clock."""
    planned_cores: tuple[int, ...] = ()
    """The cores that it was pinned to."""
    variables: dict[str, str] | None = None
    """The environment variables that change what is measured."""
    progress: Progress = Progress()
    """Where it records its phase and its step."""
    pause_sampling: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context in which the sampler of the node takes no samples. Raises ``OSError`` where it does not pause."""
    hasten_sampling: Callable[[int], AbstractContextManager[bool]] = _as_often_as_usual
    """A context in which the sampler of the node ticks so many times as often: at once where its value is true, else
    from its next tick on. Raises ``OSError`` where it does not."""
    clock: Clock = time.perf_counter
    """The clock of warm-up and measured steps, in seconds."""
    events: DeviceEvents | None = None
    """What marks the ends of blocks of steps on a device; ``None``: CUDA's events, on a CUDA device."""
    boot_id: str | None = None
    """That of its machine."""
    folder: Path | None = None
    """The folder of the trial on its node; it is removed with the trial."""
    scratch: Path | None = None
    """The folder for temporary files of the command that runs the trial, or of its agent on this node; it is there for
    later trials too."""
    keep: Callable[[RankRecord], None] = _drop
    """Keeps a record that is not complete, for a rank that does not come back from its last measurements."""
