"""What ``tox run -e sweep`` sets up before the sweep: Horovod, where the sweep uses it and the cache has its wheel, and
plotly's small bundle.

    python -m harness.cli.sweep_setup [arguments of `sweep`]

Compiling Horovod takes minutes, once for each torch: the sweep does that (``--build``), when it has measured all cells
that need no Horovod.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from harness.defects import install_hooks
from harness.errors import HarnessError


def uses_horovod(arguments: Sequence[str]) -> bool:
    """Whether a sweep with these arguments names a backend that needs Horovod.

    Where the arguments are wrong, or ask for help, it needs nothing: the command itself says so.
    """
    from bench.plugins.registry import load_plugins

    if {"-h", "--help"} & set(arguments):  # which would be printed here, and by the command again
        return False
    try:
        names = _backends(arguments)
    except HarnessError:
        return False
    except Exception as problem:
        # Typer's own: a wrong number, an unknown option.
        if hasattr(problem, "format_message"):
            return False
        raise
    backends = load_plugins().backends
    return any("horovod" in backends[name].requires for name in names if name in backends)


def _backends(arguments: Sequence[str]) -> Sequence[str]:
    from harness.cli.app import load_command
    from harness.cli.sweep import request_of
    from harness.sweep.plan import load_request_plugins, load_suite

    options: dict[str, Any] = load_command("sweep").make_context("sweep", list(arguments)).params
    if options["resume"]:
        return _unfinished_backends(options["store"])
    request = request_of(options)
    return load_suite(request, load_request_plugins(request)).backends


def _unfinished_backends(store_url: str) -> Sequence[str]:
    from harness.store.opening import open_store

    store = open_store(store_url, create=False)
    try:
        name = store.unfinished()
        return () if name is None else [case.backend for case in store.sweep(name).plan.cases]
    finally:
        store.close()


def main() -> int:
    """Set up what the sweep of this process's arguments uses; returns the exit status."""
    from harness.setup import horovod_wheel, plotly_bundle

    arguments, sys.argv[1:] = sys.argv[1:], []
    if uses_horovod(arguments):
        horovod_wheel.install(compile_it=False)
    return plotly_bundle.main()


if __name__ == "__main__":
    install_hooks()
    sys.exit(main())
