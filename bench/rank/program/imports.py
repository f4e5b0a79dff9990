"""Acts on modules when a program imports them, and imports none before it does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Action = Callable[[ModuleType], None]


class ImportWatch:
    """A finder of ``sys.meta_path`` that finds nothing of its own: it has an action follow the import of a module."""

    def __init__(self) -> None:
        self._actions: dict[str, list[Action]] = {}

    def when_imported(self, name: str, action: Action) -> None:
        """Call ``action`` with a module right after it was imported; at once where it was imported before.

        The module's own importers get what the action has left in it: ``torch`` takes ``save`` from
        ``torch.serialization`` after the action.

        Args:
            name: The full name of the module.
            action: It must not raise: an exception would be the program's.
        """
        module = sys.modules.get(name)
        if module is not None:
            action(module)
        else:
            self._actions.setdefault(name, []).append(action)

    def start(self) -> None:
        """Watch the imports of this process."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Watch no longer. A second call does nothing."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec as the other finders give it, whose loader also calls the actions."""
        actions = self._actions.pop(name, None)
        if actions is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                _follow(spec, actions)
                return spec
        self._actions[name] = actions
        return None


def _follow(spec: ModuleSpec, actions: list[Action]) -> None:
    """Have the loader of one module, which is an object of its own, call actions after it has executed the module."""
    loader: Any = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        execute(module)
        for action in actions:
            action(module)

    loader.exec_module = exec_module
