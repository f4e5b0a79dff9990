"""Finds backends and workloads by looking into their folders. A new file there is all that a new one needs."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench.plugins.backend import Backend
    from bench.plugins.workload import Workload


class UnknownPlugin(LookupError):
    """No plugin of that name. ``known`` lists those there are."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} '{name}'")
        self.kind, self.name, self.known = kind, name, known


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that can't be imported. The others stay usable."""

    kind: str
    name: str
    error: str


def plugin_modules(folder: str, kind: str) -> dict[str, str]:
    """The modules that define a plugin, by plugin name. ``folder``: the package they lie in (``bench.backends``).

    A plugin is one module, or a package whose module ``kind`` defines it (``bench.backends.dask.backend``). What a
    folder's plugins share is listed in its ``NOT_PLUGINS``.
    """
    package = importlib.import_module(folder)
    shared: frozenset[str] = getattr(package, "NOT_PLUGINS", frozenset())
    return {
        module.name: f"{folder}.{module.name}{f'.{kind}' if module.ispkg else ''}"
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name)
        if not module.name.startswith("_") and module.name not in shared
    }


def backend_names() -> list[str]:
    return list(plugin_modules("bench.backends", "backend"))


def workload_names() -> list[str]:
    return list(plugin_modules("bench.workloads", "workload"))


@cache
def load_backend(name: str) -> Backend:
    """The backend in ``bench/backends/<name>.py``. Raises :class:`UnknownPlugin`."""
    if name not in backend_names():
        raise UnknownPlugin("backend", name, backend_names())
    plugin: Backend = importlib.import_module(plugin_modules("bench.backends", "backend")[name]).BACKEND
    _require_attributes(plugin, "name", "summary", "transports", "options")
    return plugin


@cache
def load_workload(name: str) -> Workload:
    """The workload in ``bench/workloads/<name>.py``. Raises :class:`UnknownPlugin`."""
    if name not in workload_names():
        raise UnknownPlugin("workload", name, workload_names())
    plugin: Workload = importlib.import_module(plugin_modules("bench.workloads", "workload")[name]).WORKLOAD
    _require_attributes(plugin, "name", "summary", "kind", "options")
    return plugin


def _require_attributes(plugin: object, *attributes: str) -> None:
    missing = [name for name in attributes if not hasattr(plugin, name)]
    if missing:
        raise TypeError(f"{type(plugin).__name__} does not say its {', '.join(missing)}")


class Plugins(NamedTuple):
    """The plugins of a command, loaded once; those that can't be imported with the reason."""

    backends: dict[str, Backend]
    workloads: dict[str, Workload]
    broken: list[BrokenPlugin]


def load_plugins() -> Plugins:
    """Every plugin that loads, and those that don't with the reason."""
    usable_backends: dict[str, Backend] = {}
    usable_workloads: dict[str, Workload] = {}
    broken: list[BrokenPlugin] = []
    for name in backend_names():
        try:
            usable_backends[name] = load_backend(name)
        except Exception as problem:
            broken.append(BrokenPlugin("backend", name, f"{type(problem).__name__}: {problem}"))
    for name in workload_names():
        try:
            usable_workloads[name] = load_workload(name)
        except Exception as problem:
            broken.append(BrokenPlugin("workload", name, f"{type(problem).__name__}: {problem}"))
    return Plugins(usable_backends, usable_workloads, broken)
