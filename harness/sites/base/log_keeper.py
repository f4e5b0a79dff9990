"""Keeps the logs of a site's own programs short while a trial runs: of ssh, of a launcher, of Slurm's steps.

Those of ranks are kept short on their nodes, by the supervisor of the ranks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.core.records import Condition
from bench.host.logs import shorten_log

INTERVAL_S = 1.0


@contextmanager
def logs_kept_short(logs: Callable[[], Iterable[Path]], interval_s: float = INTERVAL_S) -> Iterator[dict[str, int]]:
    """A context in which logs that become too long are shortened, every ``interval_s`` seconds and at its end.

    Args:
        logs: The logs at that moment.
        interval_s: In seconds.

    Yields:
        How many bytes were dropped, by the name of the log, without its suffix; complete at the end of the context.
    """
    dropped: dict[str, int] = {}
    finished = threading.Event()

    def shorten() -> None:
        for log in logs():
            if size := shorten_log(log):
                dropped[log.stem] = dropped.get(log.stem, 0) + size

    def keep_short() -> None:
        while not finished.wait(interval_s):
            shorten()

    keeper = threading.Thread(target=keep_short, name="log-keeper", daemon=True)
    keeper.start()
    try:
        yield dropped
    finally:
        finished.set()
        keeper.join()
        shorten()


def noisy_logs(dropped: Mapping[str, int]) -> tuple[Condition, ...]:
    """What a reader of a trial has to know of logs that were shortened (pure)."""
    return tuple(
        Condition(name="noisy_log", seen=f"{title}: {size / 2**20:.0f} MiB of its output were dropped")
        for title, size in dropped.items()
    )
