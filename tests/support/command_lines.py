"""Command lines in workflows and texts, parsed as their programs would parse them; nothing is run."""

from __future__ import annotations

import configparser
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.main import get_command

from harness.cli.app import app
from harness.errors import UsageError
from harness.planning.options import parse_settings, resolve_options
from harness.planning.suite import suite_names
from harness.setup.inventory import list_plugins
from tests.support.paths import ROOT

GITLAB = ROOT / "docs" / "ci" / "gitlab-ci.yml"
OPERATORS = ";&|<>"
SHELLS = {"", "sh", "bash", "console"}
"""What the code blocks of a text are called that hold commands."""
PROGRAMS = re.compile(r"\b(?:python3? -m|tox|scaling-harness) ")
CONTINUED = re.compile(r"\\\n\s*")
PLACEHOLDER = re.compile(r"…|\.\.\.|\[")


class WrongCommand(AssertionError):
    """A command line that its program would refuse. The text names the word."""


def markdown_tokens(path: Path) -> Iterator[Token]:
    """All tokens of a text, those inside paragraphs included."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text()):
        yield token
        yield from token.children or ()


def workflow_steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


def shell_lines(path: Path) -> list[str]:
    """Shell lines of a workflow, or the commands of a text: its blocks and its inline code."""
    if path.suffix == ".md":
        tokens = list(markdown_tokens(path))
        blocks = [token.content for token in tokens if token.type in ("code_block", "fence") and token.info in SHELLS]
        inline = [token.content for token in tokens if token.type == "code_inline" and PROGRAMS.match(token.content)]
        return [
            line
            for text in [*blocks, *inline]
            for line in CONTINUED.sub(" ", text).splitlines()
            if text in blocks or not PLACEHOLDER.search(text)
        ]
    if path == GITLAB:
        jobs = [job for job in yaml.safe_load(path.read_text()).values() if isinstance(job, dict)]
        return [line for job in jobs for key in ("before_script", "script") for line in job.get(key, [])]
    return [line for step in workflow_steps(path) for line in CONTINUED.sub(" ", step.get("run", "")).splitlines()]


def commands(lines: Iterable[str]) -> Iterator[list[str]]:
    """What is called in them, each as words up to the shell's next operator."""
    for line in lines:
        if not PROGRAMS.search(f"{line} "):
            continue
        call: list[str] = []
        words = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
        words.whitespace_split = True
        for word in [*words, ";"]:
            if set(word) <= set(OPERATORS):
                if call:
                    yield call
                call = []
            else:
                call.append(word)


def check_commands(path: Path) -> None:
    """Parse each command of a file. Raises :class:`WrongCommand`."""
    for call in commands(shell_lines(path)):
        check(call)


def check(call: list[str]) -> None:
    """Parse one command. Raises :class:`WrongCommand`; programs of others pass."""
    if call[:2] == ["tox", "run"]:
        _check_tox(call[2:])
    elif call[0] == "scaling-harness":
        _check_harness(call[1:])
    elif call[0] in ("python", "python3") and call[1:2] == ["-m"]:
        _check_module(call[2], call[3:])


def _check_tox(words: list[str]) -> None:
    options, arguments = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if options[:1] != ["-e"] or len(options) != 2:
        raise WrongCommand(f"tox run {' '.join(options)}: expected -e ENVIRONMENT")
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    for environment in options[1].split(","):
        section = f"testenv:{environment}"
        if section not in tox:
            raise WrongCommand(f"tox has no environment {environment}")
        for line in tox[section]["commands"].strip().splitlines():
            called = shlex.split(line)
            if called[:3] == ["python", "-m", "harness"]:
                at = called.index("{posargs}")
                _check_harness(called[3:at] + arguments + called[at + 1 :])


def _check_module(module: str, arguments: list[str]) -> None:
    if module == "harness":
        _check_harness(arguments)
    elif module.partition(".")[0] in ("bench", "reports", "harness"):
        _check_parser(module, arguments)


def _check_parser(module: str, arguments: list[str]) -> None:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise WrongCommand(str(missing)) from None
    if not hasattr(found, "parser"):
        raise WrongCommand(f"{module} has no parser() to check its arguments by")
    refusal = io.StringIO()
    with contextlib.redirect_stderr(refusal):
        try:
            found.parser().parse_args(arguments)
        except SystemExit:
            raise WrongCommand(refusal.getvalue()) from None


def _check_harness(arguments: list[str]) -> None:
    if not arguments or arguments in (["--version"], ["--install-completion"], ["--show-completion"]):
        return
    command = _command(arguments[0])
    if command is None:
        raise WrongCommand(f"no command {arguments[0]}")
    if len(arguments) == 1:
        # A text may name a command without the arguments that it requires.
        return
    try:
        values = command.make_context(arguments[0], arguments[1:]).params
    except Exception as refused:
        if not hasattr(refused, "format_message"):
            raise
        raise WrongCommand(refused.format_message()) from None
    suite = values.get("suite")
    if not (suite is None or suite.endswith(".toml") or suite in suite_names()):
        raise WrongCommand(f"no suite {suite}")
    if not any(word.startswith("--plugin") for word in arguments):
        _check_options(list(values.get("settings") or ()))


@cache
def _command(name: str) -> Any:
    """The command of that name, or ``None``."""
    group: Any = get_command(app)
    return group.get_command(group.make_context("harness", ["list"], resilient_parsing=True), name)


def _check_options(settings: list[str]) -> None:
    try:
        resolve_options(parse_settings(settings), _known_options())
    except UsageError as refused:
        raise WrongCommand(str(refused)) from None


@cache
def _known_options() -> dict[str, tuple[str, ...]]:
    plugins = list_plugins()
    known = {
        f"{kind}.{plugin['name']}": tuple(option["name"] for option in plugin["options"])
        for kind in ("backend", "workload", "site")
        for plugin in plugins[f"{kind}s"]
    }
    return {
        plugin: (*names, "transport") if plugin.startswith("backend.") else names for plugin, names in known.items()
    }
