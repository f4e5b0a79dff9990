"""A command of the harness as a part of another program, which it does not outlive.

    python -m harness.library DESCRIPTOR COMMAND …

The descriptor is the reading end of a pipe, whose other end that program alone holds: when the program is gone, however
it ended, the command is ended as by SIGTERM, and ends its ranks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress


def main() -> int:
    """Run the command of this process; returns the exit status."""
    descriptor = int(sys.argv.pop(1))
    threading.Thread(target=_end_with_program, args=(descriptor,), daemon=True).start()
    from harness.__main__ import main as run_command

    return run_command()


def _end_with_program(descriptor: int) -> None:
    with suppress(OSError):
        os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
