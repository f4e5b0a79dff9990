"""The saving of checkpoints, seen by the functions that do it: how long the program waits, and what is under way."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from bench.rank.program.imports import ImportWatch

SAVERS = {
    "torch.serialization": ("save",),
    "torch.distributed.checkpoint.state_dict_saver": ("save", "async_save"),
    "safetensors.torch": ("save_file",),
}
"""Functions that save a checkpoint, by their modules."""
MAX_PAUSES = 10_000
WAIT_S = 0.02


class CheckpointWatch:
    """Times the savers of a program."""

    def __init__(self) -> None:
        self.pauses_ns: list[tuple[int, int]] = []
        """The begin and end of each saving that the program waited for in its training thread; at most
        :data:`MAX_PAUSES`."""
        self._lock = threading.Lock()
        self._under_way: dict[int, int] = {}  # how many savings, by thread
        self._futures: list[Any] = []

    def install(self, imports: ImportWatch, training_thread: Callable[[], int]) -> None:
        """Watch all savers, once they are imported.

        Args:
            imports: The imports of the process.
            training_thread: Gives the identifier of the thread in which the program trains.
        """
        for module_name, names in SAVERS.items():
            imports.when_imported(module_name, functools.partial(self._watch, names, training_thread))

    def wait(self, limit_s: float) -> bool:
        """Wait until no other thread is saving; returns whether that was so within the limit."""
        deadline = time.monotonic() + limit_s
        while self.busy():
            if time.monotonic() > deadline:
                return False
            time.sleep(WAIT_S)
        return True

    def busy(self, *, own_thread: bool = False) -> bool:
        """Whether a checkpoint is being saved, in another thread than this one unless ``own_thread``."""
        with self._lock:
            here = threading.get_ident()
            if any(count for thread, count in self._under_way.items() if own_thread or thread != here):
                return True
            self._futures = [future for future in self._futures if not future.done()]
            return bool(self._futures)

    def paused_ns(self, began_ns: int, ended_ns: int) -> list[int]:
        """The lengths of the pauses, as far as they are between two times."""
        return [
            min(after, ended_ns) - max(before, began_ns)
            for before, after in self.pauses_ns
            if min(after, ended_ns) > max(before, began_ns)
        ]

    def _watch(self, names: tuple[str, ...], training_thread: Callable[[], int], module: ModuleType) -> None:
        for name in names:
            save = getattr(module, name, None)
            if save is not None:
                setattr(module, name, self._timed(save, training_thread))

    def _timed(self, save: Any, training_thread: Callable[[], int]) -> Any:
        @functools.wraps(save)
        def timed(*arguments: Any, **named: Any) -> Any:
            thread, began_ns = threading.get_ident(), time.monotonic_ns()
            outermost = self._change(thread, 1) == 1
            try:
                result = save(*arguments, **named)
                futures = [result, getattr(result, "upload_completion", None)]
                self._futures += [future for future in futures if hasattr(future, "done")]
                return result
            finally:
                self._change(thread, -1)
                if outermost and thread == training_thread() and len(self.pauses_ns) < MAX_PAUSES:
                    self.pauses_ns.append((began_ns, time.monotonic_ns()))

        return timed

    def _change(self, thread: int, by: int) -> int:
        with self._lock:
            count = self._under_way[thread] = self._under_way.get(thread, 0) + by
            return count
