"""The control plane: plans, runs, stores, and the command line; and the functions of the library.

A user's own program imports this package for :func:`report`: what else it gives is loaded when it is used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.errors import CommandError as CommandError
    from harness.errors import HarnessError as HarnessError
    from harness.library.results import ResultsStore as ResultsStore
    from harness.library.results import open_store as open_store
    from harness.library.running import SweepRun as SweepRun
    from harness.library.running import run as run

__all__ = ["CommandError", "HarnessError", "ResultsStore", "SweepRun", "open_store", "report", "run"]

_MODULES = {
    "CommandError": "harness.errors",
    "HarnessError": "harness.errors",
    "ResultsStore": "harness.library.results",
    "SweepRun": "harness.library.running",
    "open_store": "harness.library.results",
    "run": "harness.library.running",
}
"""Where each of the other names is defined."""


if not TYPE_CHECKING:  # a type checker would take any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        _check_packages()
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value


def _check_packages() -> None:
    """Raise :class:`ImportError` where another package hides one of ours: in the folder of a program, say."""
    from importlib.util import find_spec
    from pathlib import Path

    for package in ("bench", "reports"):
        own, found = Path(__file__).parents[1] / package / "__init__.py", find_spec(package)
        origin = None if found is None else found.origin or next(iter(found.submodule_search_locations or ()), None)
        if origin is None:
            raise ImportError(f"{own}: scaling-harness lacks its package {package}; install it again")
        if Path(origin).resolve() != own.resolve():
            raise ImportError(f"{origin}: hides the package {package} of scaling-harness; rename it, or work elsewhere")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def report(*, loss: Any = None, parameters: Any = None, step: int | None = None, samples: float | None = None) -> None:
    """Report a step of your program's training to the sweep that runs it; outside a sweep it does nothing.

    Every rank reports, with the same arguments. The losses, the mean over the ranks, are compared with those of the
    smallest number of ranks, and the parameters of all ranks must be equal after the measured window.

    Args:
        loss: The loss of this rank's samples: a number or a tensor of one element. Of several reports in a step, the
            mean counts.
        parameters: The model, its parameters or its state dictionary. They are read after the measured window: give
            the ones that are trained, not a copy.
        step: The number of the step; by default, how many steps your optimizer has taken.
        samples: How many samples the loss is a mean over, where ranks have different numbers of them.
    """
    # Loaded by a rank of a sweep only.
    reports = sys.modules.get("bench.rank.program.reported")
    if reports is not None:
        reports.report(loss=loss, parameters=parameters, step=step, samples=samples)
