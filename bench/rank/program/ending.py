"""Ends a program after its window without hurting it, and in any case.

SystemExit is raised where its training is, at the end of the same step on all ranks, after a checkpoint that another
thread is saving was written. What the program does then (``finally``, exit handlers, threads that it waits for) has a
limit, after which its process and all that came from it are ended.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.host.process_tree import descendants_of, end_all
from bench.rank.program.checkpoints import CheckpointWatch

SAVE_LIMIT_S = 60.0
"""How long a checkpoint that is being saved is waited for."""
EXIT_LIMIT_S = 6.0
"""How long a program may take to end once it is stopped, beside the checkpoints that it saves meanwhile."""
MAX_RAISED = 3
"""So often SystemExit is raised, at the end of one step each, where a program goes on after it."""
WATCH_S = 0.1
real_exit = os._exit


class Ending:
    """The end of one program.

    Args:
        checkpoints: The savers of the program.
        on_problem: Called in the end of a program that did not end by itself, with what it did instead.
        exit_limit_s: How long it may take to end.
    """

    def __init__(
        self, checkpoints: CheckpointWatch, on_problem: Callable[[str], None], exit_limit_s: float = EXIT_LIMIT_S
    ) -> None:
        self.checkpoints, self.on_problem, self.exit_limit_s = checkpoints, on_problem, exit_limit_s
        self.raised = 0
        self.status = 0
        """The exit status of the process of a program that does not end by itself."""
        self._finished = threading.Event()

    def stop(self) -> None:
        """Raise SystemExit in this thread, which is at the end of a step.

        Called again at the end of a later step where the program has caught that; the last time, its process ends here.
        """
        if not self.raised:
            self.checkpoints.wait(SAVE_LIMIT_S)
        self.count_raised()
        raise SystemExit(0)

    def count_raised(self) -> None:
        """What ends the program is raised next: for the first time, or once more."""
        if not self.raised:
            self.watch()
        self.raised += 1
        if self.raised > MAX_RAISED:
            self._end("it went on after SystemExit")

    def interrupt(self) -> None:
        """Have SystemExit raised in the main thread, wherever that is. A second call does nothing."""
        if not self.raised:
            self.raised += 1
            self.watch()
            main = ctypes.c_ulong(threading.main_thread().ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(SystemExit))

    def watch(self) -> None:
        """End the process if the program has not ended within the limit."""
        threading.Thread(target=self._watch, name="program-end", daemon=True).start()

    def finished(self) -> None:
        """The program has ended."""
        self._finished.set()

    def _watch(self) -> None:
        deadline, last = time.monotonic() + self.exit_limit_s, time.monotonic() + self.exit_limit_s + SAVE_LIMIT_S
        while not self._finished.wait(WATCH_S):
            now = time.monotonic()
            if self.checkpoints.busy(own_thread=True):
                deadline = now + self.exit_limit_s
            if now > min(deadline, last):
                self._end(f"it did not end within {self.exit_limit_s:g} s of SystemExit")

    def _end(self, problem: str) -> None:
        try:
            self.on_problem(problem)
            end_descendants()
        finally:
            real_exit(self.status)


def end_descendants() -> None:
    """End what this process has started: the worker processes of a DataLoader, and what they have started."""
    own = os.getpid()
    end_all(lambda: descendants_of(own), limit_s=2.0)


def run_exit_handlers() -> None:
    """What Python does before it clears its modules: wait for threads that are no daemons, call what ``atexit`` and
    ``threading`` were given."""
    shutdown_threads: Any = threading.__dict__["_shutdown"]
    run_handlers: Any = atexit.__dict__["_run_exitfuncs"]
    shutdown_threads()
    run_handlers()
