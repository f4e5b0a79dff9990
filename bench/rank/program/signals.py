"""The stacks of a rank on SIGUSR1, also of a program that has a handler of its own for that signal."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
from contextlib import suppress
from typing import Any


def keep_stack_dump() -> None:
    """Write the stacks of all threads on SIGUSR1 to what is standard error now, whatever becomes of that.

    A handler that the program sets for that signal is called after it.
    """
    with suppress(OSError, ValueError):
        # Another program's file may get the number of a standard error that was closed.
        log = os.dup(2)
        faulthandler.register(signal.SIGUSR1, file=log, all_threads=True)
        set_handler: Any = signal.signal

        @functools.wraps(set_handler)
        def set_and_keep(number: Any, handler: Any) -> Any:
            if number == signal.SIGUSR1:
                # Registered again, so that it calls the handler that was set meanwhile.
                faulthandler.unregister(signal.SIGUSR1)
                try:
                    return set_handler(number, handler)
                finally:
                    chain = callable(handler)
                    faulthandler.register(signal.SIGUSR1, file=log, all_threads=True, chain=chain)
            return set_handler(number, handler)

        signal.__dict__["signal"] = set_and_keep
