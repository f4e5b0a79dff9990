"""Source code as part of a measurement: the digest of this package, and plugins that travel to the nodes with a case.

    python -m bench.plugins.sources

prints the digest of the package. Ranks of another digest would measure something else, or not understand the case.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from bench.core.case import PluginSource
from bench.host.logs import describe_exception
from bench.host.running_code import DIGEST_LENGTH, sources_digest

DIGEST_PREFIX = "scaling-sources "
MAX_PLUGIN_BYTES = 256 * 1024
"""Of a plugin's file: it is part of every case."""


class PluginError(Exception):
    """A plugin that can't be used. The text is one line that names the plugin and the remedy."""


def text_digest(text: str) -> str:
    """The digest of a plugin's source text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def read_plugin_file(path: Path) -> str:
    """The source text of a plugin's file. Raises :class:`PluginError`."""
    try:
        if path.exists() and not path.is_file():
            raise PluginError(f"plugin {path}: is no regular file; name a Python file")
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_PLUGIN_BYTES + 1)
    except (OSError, ValueError) as problem:  # no UTF-8 text, or a name that no file can have
        raise PluginError(f"plugin {path}: cannot be read ({problem})") from None
    if len(text.encode()) > MAX_PLUGIN_BYTES:
        raise PluginError(
            f"plugin {path}: is larger than {MAX_PLUGIN_BYTES // 1024} KiB; install what it needs as a package"
        )
    return text


class _TextLoader(importlib.abc.ExecutionLoader):
    """Loads a module from text, so that tracebacks and ``inspect`` find its lines where there is no file."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text

    def get_filename(self, fullname: str) -> str:
        return self.file

    def get_source(self, fullname: str) -> str:
        return self.text


@cache
def load_text(file: str, text: str) -> ModuleType:
    """The module of a plugin's source text; the same text gives the same module.

    Args:
        file: The name of its file, for tracebacks.
        text: Its source.

    Raises:
        PluginError: The text can't be imported: with the exception, and the line where it was raised.
    """
    # Found by this name when functions of the module are pickled.
    name = f"scaling_plugin_{Path(file).stem}_{text_digest(text)}"
    spec = importlib.util.spec_from_loader(name, _TextLoader(file, text))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # SystemExit is no Exception
        del sys.modules[name]
        remedy = ""
        if isinstance(problem, ModuleNotFoundError):
            remedy = "; what a plugin imports is installed, here and on every node, or imported inside its functions"
        raise PluginError(f"plugin {file}: {describe_problem(problem, file)}{remedy}") from problem
    return module


def describe_problem(problem: BaseException, file: str) -> str:
    """``ImportError: no module named 'x' (line 3)``: the exception in one line, with the last line of ``file``."""
    lines = [problem.lineno] if isinstance(problem, SyntaxError) else []
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    described = f"SyntaxError: {problem.msg}" if isinstance(problem, SyntaxError) else describe_exception(problem)
    return f"{described}{f' (line {lines[-1]})' if lines else ''}"


def load_source(source: PluginSource) -> object:
    """The plugin that a case carries: from its text, or from the package that is installed here.

    Raises :class:`PluginError` where it can't be imported, or is of another source here than on the harness's machine.
    """
    if source.text is not None:
        return getattr(load_text(source.file, source.text), source.attribute)
    try:
        module = importlib.import_module(source.module)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        raise PluginError(f"plugin {source.module}: {describe_problem(problem, source.file)}") from problem
    if module_digest(module) != source.digest:
        raise PluginError(
            f"plugin {source.module}: its source differs from that on the harness's machine; install the same version"
        )
    return getattr(module, source.attribute)


def module_digest(module: ModuleType) -> str:
    """The digest of the file of an installed module."""
    return text_digest(Path(str(module.__file__)).read_text(encoding="utf-8"))


if __name__ == "__main__":
    print(DIGEST_PREFIX + sources_digest())
