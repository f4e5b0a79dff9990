"""The sources of a sweep as a value: the digest of what its ranks run, and of each file, to name those that change."""

from __future__ import annotations

import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from bench.core.frozen_model import FrozenModel
from bench.host.running_code import CODE, ORIGIN, sources_digest
from harness.planning.source_copy import PACKAGES, copy_folder, file_digests, files_of

MAX_PLUGIN_PACKAGE_BYTES = 64 * 2**20
"""Of a package that a plugin is from: a larger one is not copied."""
INSTALLED = ("site-packages", "dist-packages")
INSTALLATION_PATHS = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
MAX_NAMED_FILES = 3
NO_SOURCES = "recorded before there were digests of sources"
"""Why a sweep has no :class:`Sources`."""


class Sources(FrozenModel):
    """The sources of a sweep."""

    digest: str
    """Of the package ``bench``, as ranks report it."""
    files: dict[str, str]
    """The digest of each file of the packages, and of plugins' own packages, by its path."""

    def changed_since(self, before: Sources) -> tuple[str, ...]:
        """The files that were changed, added or removed after an earlier state, in alphabetical order (pure)."""
        paths = sorted(self.files.keys() | before.files.keys())
        return tuple(path for path in paths if self.files.get(path) != before.files.get(path))


def read_sources() -> Sources:
    """The sources that this process runs, and those of the plugins that it has loaded."""
    files = file_digests(CODE)
    for package in plugin_packages():
        files |= file_digests(package.parent, (package.name,), suffix=".py")
    return Sources(digest=sources_digest(), files=files)


def copy_plugin_packages() -> list[str]:
    """Copy the packages of plugins into the copy that this process runs from, so that its ranks import them from there.

    What is installed (in ``site-packages``) is taken to stay as it is, as other packages are.

    Returns:
        The names of packages that are too large: ranks import them from where they are.
    """
    if ORIGIN == CODE:
        return []
    large = []
    for package in plugin_packages():
        if sum(path.stat().st_size for path in files_of(package)) > MAX_PLUGIN_PACKAGE_BYTES:
            large.append(package.name)
        elif package.is_dir():
            copy_folder(package, CODE / package.name)
        else:
            shutil.copy2(package, CODE / package.name)
    return large


def plugin_packages() -> list[Path]:
    """The folders and files of the packages that this process has loaded and that are neither ours nor installed."""
    return sorted(set(_plugin_packages()))


def _plugin_packages() -> Iterator[Path]:
    installed = [*_installation_folders(), CODE, ORIGIN]
    for name, module in list(sys.modules.items()):
        # Modules of plugins' files (:func:`bench.plugins.sources.load_text`) have a name for a path.
        path = Path(str(getattr(module, "__file__", None)))
        ours = name in (*PACKAGES, "__main__", "__mp_main__")
        if ours or "." in name or path.suffix != ".py" or not path.is_absolute() or not path.is_file():
            continue
        path = path.resolve()
        if not any(path.is_relative_to(folder) for folder in installed) and not set(INSTALLED) & set(path.parts):
            yield path.parent if path.name == "__init__.py" else path


def _installation_folders() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    folders = [*(paths[name] for name in INSTALLATION_PATHS), *site.getsitepackages(), site.getusersitepackages()]
    yield from (Path(folder).resolve() for folder in folders)


def describe_files(paths: tuple[str, ...]) -> str:
    """``bench/rank/loop.py and 2 more`` (pure)."""
    more = len(paths) - MAX_NAMED_FILES
    return ", ".join(paths[:MAX_NAMED_FILES]) + (f" and {more} more" if more > 0 else "")
