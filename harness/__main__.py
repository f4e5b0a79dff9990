"""The entry point of ``python -m harness`` and of the console script ``scaling-harness``.

It makes sure that this package's own modules are imported, whatever the current folder holds, and imports nothing
else: ranks that are forked or spawned import this module too.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bench", "reports", "harness")


def isolate_imports() -> None:
    """Import our packages and not the user's of the same names, in this process and in those that it starts.

    ``python -m`` puts the current folder in front of the import path; there a user's own ``bench/`` would be taken
    for ours. The folder is left out, here and (by ``PYTHONSAFEPATH``) in every child process. Only where our packages
    would then not be found, or not be the first of their names, does their folder go to the front.
    """
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"
    if not all(_is_ours(name) for name in PACKAGES):
        root = str(SOURCE_ROOT)
        sys.path.insert(0, root)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _is_ours(package: str) -> bool:
    spec = PathFinder.find_spec(package)
    return spec is not None and spec.origin == str(SOURCE_ROOT / package / "__init__.py")


def main() -> int:
    """Run the command line of this process; returns the exit status."""
    isolate_imports()
    from harness.cli.app import main as run_command_line

    return run_command_line()


if __name__ == "__main__":
    sys.exit(main())
