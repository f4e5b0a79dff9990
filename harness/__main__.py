"""The entry point of ``python -m harness`` and of the console script ``scaling-harness``.

It makes sure that this package's own modules are imported, whatever the current folder holds, and that the exit status
is that of the command. It imports nothing else: ranks that are forked or spawned import this module too.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

EXIT_INTERRUPTED = 130
GC_THRESHOLDS = 100_000, 20, 50
"""Of objects before their cycles are looked for. A report makes millions, hardly any in cycles; with Python's
thresholds a third of its time goes to looking. Ranks are other processes."""


def end_when_interrupted(enabled: bool) -> None:
    """Let an interrupt (Ctrl-C) end this process at once, or raise :class:`KeyboardInterrupt` again.

    It ends the process while modules are loaded and after the command has ended: nothing is in progress then, and an
    exception could be raised anywhere. An interrupt that is ignored (``nohup``, ``&`` in a script) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) in (_end, signal.default_int_handler):
        signal.signal(signal.SIGINT, _end if enabled else signal.default_int_handler)


def _end(signal_number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    end_when_interrupted(True)

from importlib.machinery import PathFinder  # noqa: E402 - an interrupt would be a traceback until here
from pathlib import Path  # noqa: E402

SOURCE_ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "reports", "harness")


def isolate_imports() -> None:
    """Import our packages and not the user's of the same names, in this process and in those that it starts.

    ``python -m`` puts the current folder in front of the import path; there a user's own ``bench/`` would be taken
    for ours. The folder is left out, here and (by ``PYTHONSAFEPATH``) in every child process. Only where our packages
    would then not be found, or not be the first of their names, does their folder go to the front.
    """
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", _current_folder()):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"
    if not all(_is_ours(name) for name in PACKAGES):
        root = str(SOURCE_ROOT)
        sys.path.insert(0, root)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return ""


def _is_ours(package: str) -> bool:
    spec = PathFinder.find_spec(package)
    return spec is not None and spec.origin == str(SOURCE_ROOT / package / "__init__.py")


def main() -> int:
    """Run the command line of this process; returns the exit status."""
    end_when_interrupted(True)
    isolate_imports()
    from harness.defects import install_hooks
    from harness.streams import StandardStreams, open_closed_descriptors

    open_closed_descriptors()
    # Before standard output gets another descriptor: the program is replaced.
    problem = _run_from_copy() if _measures(sys.argv[1:]) else None
    streams = StandardStreams()
    install_hooks()
    status = _run_command() if problem is None else _report_start(problem)
    end_when_interrupted(True)
    return streams.exit_status(status)


def _measures(arguments: list[str]) -> bool:
    """Whether the command starts ranks: it then runs from a copy of its sources."""
    command = next((word for word in arguments if not word.startswith("-")), None)
    given = set(arguments)
    if given & {"-h", "--help", "--dry-run"}:
        return False
    return command in ("sweep", "nightly") or (
        command == "check" and bool(given & {"--confirm", "--pairs-only"} or _configured_pairs())
    )


def _configured_pairs() -> bool:
    """Whether the user's configuration lets ``check`` run pairs."""
    from harness.configuration import find_configuration
    from harness.errors import HarnessError

    try:
        table = find_configuration().tables.get("check")
    except HarnessError:  # the command says so
        return False
    return isinstance(table, dict) and any(table.get(key) for key in ("confirm", "pairs-only", "pairs_only"))


def _run_from_copy() -> Exception | None:
    """Why this process can't run from a copy of its sources; ``None`` where it does."""
    try:
        from harness.planning.source_copy import run_from_copy

        run_from_copy()
    except Exception as problem:
        return problem
    return None


def _report_start(problem: Exception) -> int:
    """Print why the command was not begun; returns the exit status."""
    from bench.core.text import printable
    from harness.defects import report_defect
    from harness.errors import HarnessError

    if not isinstance(problem, HarnessError):
        return report_defect(problem)
    print(printable(f"error: {problem}"), file=sys.stderr)
    return problem.exit_code


def _run_command() -> int:
    """The command's exit status; an exception that is no message for the user is a defect, and not 1, a regression."""
    from harness.defects import report_defect

    gc.set_threshold(*GC_THRESHOLDS)
    try:
        from harness.cli.app import main as run_command_line

        end_when_interrupted(False)
        return run_command_line()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as problem:
        if str(problem.name).partition(".")[0] in PACKAGES:
            return report_defect(problem)
        return _report_missing(str(problem.name))
    except BaseException as problem:
        # SystemExit too: no command of ours ends so, but a plugin or a library may, with any status.
        return report_defect(problem)


def _report_missing(module: str) -> int:
    """Name a module that is not installed; returns the exit status."""
    from bench.core.text import printable
    from bench.host.installation import frameworks_remedy
    from harness.errors import EXIT_USAGE

    print(printable(f"error: {sys.executable} has no module {module}; {frameworks_remedy()}"), file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
