"""Finds plugins: in their folder, in files that the user names, and in installed packages (entry points).

A :class:`PluginKind` describes one kind, such as backends. Kinds of the packages above are declared there, by their
contract.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from bench.core.case import Case, PluginSource
from bench.core.names import UnsafeName, check_name
from bench.host.logs import describe_exception
from bench.plugins.backend import Backend
from bench.plugins.probe import ProbePlugin
from bench.plugins.sources import (
    PluginError,
    describe_problem,
    load_source,
    load_text,
    module_digest,
    read_plugin_file,
    text_digest,
)
from bench.plugins.workload import Workload

PluginT = TypeVar("PluginT")


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


@dataclass(eq=False)
class PluginKind(Generic[PluginT]):
    """One kind of plugin.

    Args:
        name: The kind: ``backend``. Entry points are in the group ``scaling_harness.<name>s``.
        base: The class of its plugins.
        folder: The package with the plugins that ship with the project. A plugin there is a module, or a package whose
            module ``<name>`` defines it. Modules that plugins share are listed in the package's ``NOT_PLUGINS``.
        required: Attributes that a plugin must have.
    """

    name: str
    base: type[Any]
    folder: str
    required: tuple[str, ...] = ("summary",)
    files: dict[str, PluginSource] = field(default_factory=dict)
    """The plugins of this kind in files that the user named, by plugin name; see :func:`add_plugin_file`."""

    @property
    def attribute(self) -> str:
        """The name that a plugin's module defines: ``BACKEND``."""
        return self.name.upper()

    def names(self) -> list[str]:
        """The names of all plugins of this kind: those of the project first."""
        return [*self._modules(), *self.files, *self._entry_points()]

    def load(self, name: str) -> PluginT:
        """The plugin of that name. Raises :class:`UnknownPlugin`, or whatever importing it raises."""
        if name in self._modules():
            return self._checked(getattr(importlib.import_module(self._modules()[name]), self.attribute), name)
        if name in self.files:
            return self._checked(load_source(self.files[name]), name)
        if name in self._entry_points():
            return self._checked(self._entry_points()[name].load(), name)
        raise UnknownPlugin(self.name, name, self.names())

    def module(self, name: str) -> str | None:
        """The module of a plugin that ships with the project; ``None`` for any other."""
        return self._modules().get(name)

    def load_all(self) -> tuple[dict[str, PluginT], list[BrokenPlugin]]:
        """Every plugin that loads, by name, and those that do not with the reason."""
        usable: dict[str, PluginT] = {}
        broken: list[BrokenPlugin] = []
        for name in self.names():
            try:
                usable[name] = self.load(name)
            except KeyboardInterrupt:
                raise
            except BaseException as problem:  # SystemExit is no Exception
                error = str(problem) if isinstance(problem, PluginError) else describe_exception(problem)
                broken.append(BrokenPlugin(self.name, name, error))
        return usable, broken

    def source(self, name: str) -> PluginSource | None:
        """What a node needs to load the plugin; ``None`` for one that ships with the project.

        Raises :class:`UnknownPlugin`.
        """
        if name in self._modules():
            return None
        if name in self.files:
            return self.files[name]
        if name not in self._entry_points():
            raise UnknownPlugin(self.name, name, self.names())
        entry = self._entry_points()[name]
        module = importlib.import_module(entry.module)
        return PluginSource(
            kind=self.name,
            name=name,
            file=Path(str(module.__file__)).name,
            digest=module_digest(module),
            module=entry.module,
            attribute=entry.attr,
        )

    def load_from(self, sources: Iterable[PluginSource], name: str) -> PluginT:
        """The plugin of that name, on a node: the one that travels with the case, else one that is installed."""
        for source in sources:
            if (source.kind, source.name) == (self.name, name):
                return self._checked(load_source(source), name)
        return self.load(name)

    def _checked(self, plugin: Any, name: str) -> PluginT:
        check_name(name)
        if not isinstance(plugin, self.base):
            found = type(plugin).__name__
            raise TypeError(f"{self.attribute} of {self.name} '{name}' is of type {found}, and no {self.base.__name__}")
        missing = [attribute for attribute in self.required if not hasattr(plugin, attribute)]
        if missing:
            raise TypeError(f"{type(plugin).__name__} does not define {', '.join(missing)}")
        checked: PluginT = plugin
        return checked

    def _modules(self) -> dict[str, str]:
        return _folder_modules(self.folder, self.name)

    def _entry_points(self) -> dict[str, EntryPoint]:
        installed = _installed_plugins(f"scaling_harness.{self.name}s")
        return {name: entry for name, entry in installed.items() if name not in self._modules()}


@cache
def _folder_modules(folder: str, kind: str) -> dict[str, str]:
    """The modules that define a plugin, by plugin name. A hyphen in a name is an underscore in the module's."""
    package = importlib.import_module(folder)
    shared: frozenset[str] = getattr(package, "NOT_PLUGINS", frozenset())
    separator = getattr(package, "NAME_SEPARATOR", "_")
    return {
        module.name.replace("_", separator): f"{folder}.{module.name}{f'.{kind}' if module.ispkg else ''}"
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name)
        if not module.name.startswith("_") and module.name not in shared
    }


@cache
def _all_entry_points() -> Any:
    """Of every installed distribution. Reading their metadata takes tens of milliseconds."""
    return entry_points()


@cache
def _installed_plugins(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in _all_entry_points().select(group=group)}


BACKENDS: PluginKind[Backend] = PluginKind("backend", Backend, "bench.backends", ("name", "summary", "transports"))
WORKLOADS: PluginKind[Workload] = PluginKind("workload", Workload, "bench.workloads", ("name", "summary"))
PROBES: PluginKind[ProbePlugin] = PluginKind("probe", ProbePlugin, "bench.telemetry.probes")


def add_plugin_file(path: Path, kinds: Sequence[PluginKind[Any]]) -> None:
    """Make the plugins in a file known to their kinds, for the length of this process.

    Args:
        path: A Python file that defines ``BACKEND``, ``WORKLOAD``, … What it imports must be installed.
        kinds: The kinds to look for.

    Raises:
        PluginError: The file can't be read or imported, defines no plugin, or one whose name is taken.
    """
    text = read_plugin_file(path)
    module = load_text(path.name, text)
    defined = [kind for kind in kinds if hasattr(module, kind.attribute)]
    if not defined:
        attributes = ", ".join(kind.attribute for kind in kinds)
        raise PluginError(
            f"plugin {path}: defines none of {attributes}; a training program is measured as it is by --script {path}"
        )
    for kind in defined:
        plugin = getattr(module, kind.attribute)
        name = str(getattr(plugin, "name", path.stem))
        source = PluginSource(
            kind=kind.name,
            name=name,
            file=path.name,
            digest=text_digest(text),
            attribute=kind.attribute,
            text=text,
        )
        if kind.files.get(name) == source:
            continue
        if name in kind.names():
            raise PluginError(f"plugin {path}: there is a {kind.name} '{name}' already; choose another name")
        try:
            kind._checked(plugin, name)
        except UnsafeName as problem:
            raise PluginError(f"plugin {path}: {problem}; set the attribute `name` of its {kind.attribute}") from None
        except TypeError as problem:
            raise PluginError(f"plugin {path}: {describe_problem(problem, path.name)}") from None
        kind.files[name] = source


def sources_of(case: Case) -> tuple[PluginSource, ...]:
    """The sources of the plugins from outside that a case uses: its backend, its workload, and every probe."""
    used = [BACKENDS.source(case.backend), WORKLOADS.source(case.workload), *map(PROBES.source, PROBES.names())]
    return tuple(source for source in used if source is not None)


def backend_of(case: Case) -> Backend:
    """The backend of a case, on any node. Raises :class:`UnknownPlugin` or :class:`PluginError`."""
    return BACKENDS.load_from(case.plugins, case.backend)


def workload_of(case: Case) -> Workload:
    """The workload of a case, on any node. Raises :class:`UnknownPlugin` or :class:`PluginError`."""
    return WORKLOADS.load_from(case.plugins, case.workload)


def probes_of(case: Case) -> dict[str, Callable[[], ProbePlugin]]:
    """What loads the probes of a case, by name, on any node: of the project's, and of those that travel with it."""
    names = [*_folder_modules(PROBES.folder, PROBES.name), *(s.name for s in case.plugins if s.kind == PROBES.name)]
    return {name: partial(PROBES.load_from, case.plugins, name) for name in names}


def preloaded_modules(backend: Backend, workloads: Iterable[str]) -> tuple[str, ...]:
    """The modules beside the frameworks that the processes of a trial import, each once: those that the backend names,
    and this project's own of the backend, the workloads and the probes.

    Args:
        backend: The backend.
        workloads: The names of the workloads that it runs.
    """
    own = [BACKENDS.module(backend.name), *map(WORKLOADS.module, workloads)]
    probes = _folder_modules(PROBES.folder, PROBES.name).values()
    return tuple(dict.fromkeys([*backend.preload, *(module for module in own if module is not None), *probes]))


def backend_names() -> list[str]:
    return BACKENDS.names()


def workload_names() -> list[str]:
    return WORKLOADS.names()


def load_backend(name: str) -> Backend:
    """The backend of that name. Raises :class:`UnknownPlugin`."""
    return BACKENDS.load(name)


def load_workload(name: str) -> Workload:
    """The workload of that name. Raises :class:`UnknownPlugin`."""
    return WORKLOADS.load(name)


class Plugins(NamedTuple):
    """The backends and workloads of a command, loaded once; those that can't be imported with the reason."""

    backends: dict[str, Backend]
    workloads: dict[str, Workload]
    broken: list[BrokenPlugin]


def load_plugins() -> Plugins:
    """Every backend and workload that loads, and those that do not with the reason."""
    usable_backends, broken_backends = BACKENDS.load_all()
    usable_workloads, broken_workloads = WORKLOADS.load_all()
    return Plugins(usable_backends, usable_workloads, [*broken_backends, *broken_workloads])
