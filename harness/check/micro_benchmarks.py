"""Runs of the micro-benchmarks (``suites/test_micro.py``): fresh pytest processes that write files for ``ingest``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.host.installation import install_command
from bench.host.running_code import CODE, ORIGIN
from bench.host.variables import cleaned_environment
from harness.errors import OutputError, UsageError
from harness.output_files import OutputFile, remove_output, write_output
from harness.planning.suite import SUITES_FOLDER
from harness.sweep.machine_access import open_machine_access

BENCHMARK_FILE = CODE / SUITES_FOLDER.relative_to(ORIGIN) / "test_micro.py"
"""That of the code that runs."""
NAME_PREFIX = f"{SUITES_FOLDER.name}/{BENCHMARK_FILE.name}"
"""Prefix of the names of its benchmarks."""
RUNS_PER_NIGHT = 3
TIMEOUT_S = 300.0
PYTEST_TESTS_FAILED, PYTEST_NO_TESTS_COLLECTED = 1, 5
SIGNATURE = re.compile(rb'"fullname": "%b::' % NAME_PREFIX.encode())
"""What pytest-benchmark's files of these benchmarks hold; the first benchmark follows the machine."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S+?::(?P<test>.+?)(?: - (?P<why>.*))?$", re.MULTILINE)


def night_files(folder: Path, runs: int = RUNS_PER_NIGHT) -> list[OutputFile]:
    """The files that :func:`run_night` writes."""
    return [micro_output(folder / f"micro-{number}.json") for number in range(runs)]


def micro_output(target: Path) -> OutputFile:
    """A file of micro-benchmarks."""
    return OutputFile("micro-benchmarks", target, SIGNATURE, creates_folder=True)


def night_label(sweep: str) -> str:
    """The label under which the micro-benchmarks of a sweep's night are ingested."""
    return f"micro-{sweep}"


@dataclass(frozen=True)
class MicroRun:
    """The outcome of one process of pytest."""

    file: Path | None
    """pytest-benchmark's JSON; ``None`` where no benchmark gave a number, with :attr:`reason`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Failed benchmarks by full name, with the last line of the error."""
    reason: str | None = None


def run_night(
    folder: Path,
    runs: int = RUNS_PER_NIGHT,
    only: Sequence[str] = (),
    matching: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[MicroRun, ...]:
    """Run all micro-benchmarks ``runs`` times in fresh processes; files go to ``folder``. See :func:`run_once`."""
    return tuple(run_once(output.path, only, matching, timeout_s=timeout_s) for output in night_files(folder, runs))


def run_once(
    target: Path,
    only: Sequence[str] = (),
    matching: str | None = None,
    tree: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> MicroRun:
    """Run micro-benchmarks in one fresh process.

    Args:
        target: The file to write.
        only: Full names of benchmarks; default: all.
        matching: pytest's ``-k``.
        tree: A checkout whose code is measured instead of this one's. The benchmarks are this one's in any case, so
            that only the code that they call differs.
        timeout_s: Seconds after which the process is killed.

    Raises:
        OutputError: Where the file can't be written, or is somebody else's.
        UsageError: Where pytest-benchmark is not installed.
    """
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise UsageError(f"micro-benchmarks need pytest-benchmark: run `{install_command('micro')}`")
    output = micro_output(target.absolute())
    remove_output(output)
    with tempfile.TemporaryDirectory() as folder:
        # pytest-benchmark would leave a part of its file on a full disk.
        written = Path(folder) / target.name
        with open_machine_access("micro-benchmarks") as access, access.held():
            status, printed = _run(pytest_command(written, only, matching), (tree or CODE).absolute(), timeout_s)
        result = read_result(written, status, printed, timeout_s)
        return result if result.file is None else _keep(result, output)


def _keep(result: MicroRun, output: OutputFile) -> MicroRun:
    """The result with its file in its place."""
    assert result.file is not None
    try:
        write_output(output, result.file.read_bytes())
    except OutputError as problem:
        return replace(result, file=None, reason=str(problem))
    return replace(result, file=output.path)


def pytest_command(target: Path, only: Sequence[str] = (), matching: str | None = None) -> list[str]:
    """pytest's command line: without settings, plugins and cache of the user, and with names below ``suites/``."""
    chosen = [f"{BENCHMARK_FILE}::{name.partition('::')[2] or name}" for name in only] or [str(BENCHMARK_FILE)]
    return [
        sys.executable,
        "-m",
        "pytest",
        *chosen,
        "-p",
        "benchmark",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(BENCHMARK_FILE.parents[1]),
        "-q",
        "-rfE",
        "--tb",
        "line",
        "--benchmark-only",
        "--benchmark-quiet",
        "--benchmark-json",
        str(target),
        "--benchmark-storage",
        str(target.parent),
        *(("-k", matching) if matching else ()),
    ]


def read_result(target: Path, status: int | None, output: str, timeout_s: float) -> MicroRun:
    """Interpret pytest's exit status (``None`` for a timeout), output and file."""
    if status is None:
        return MicroRun(None, reason=f"took longer than {timeout_s:g} s; {_error_line(output)}")
    failed = {f"{NAME_PREFIX}::{match['test']}": match["why"] or "failed" for match in _FAILED.finditer(output)}
    if status == PYTEST_NO_TESTS_COLLECTED:
        return MicroRun(None, reason="no benchmark matches, or all were skipped")
    first = next((f"{name}: {why}" for name, why in failed.items()), _error_line(output))
    if status not in (0, PYTEST_TESTS_FAILED):
        return MicroRun(None, failed, f"pytest ended with status {status}: {first}")
    if not (target.is_file() and json.loads(target.read_text())["benchmarks"]):
        return MicroRun(None, failed, f"no benchmark gave a number: {first}")
    return MicroRun(target, failed)


def _run(arguments: Sequence[str], source: Path, timeout_s: float) -> tuple[int | None, str]:
    """Exit status and output; the status is ``None`` after a timeout. No process is left running."""
    process = subprocess.Popen(
        arguments,
        cwd=source,
        env=_environment(source),
        text=True,
        errors="replace",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        _end(process)
        return None, process.communicate()[0]
    finally:
        if process.returncode is None:
            _end(process)


def _environment(source: Path) -> dict[str, str]:
    env = {name: value for name, value in cleaned_environment(os.environ).items() if not name.startswith("PYTEST_")}
    paths = [str(source), *filter(None, [env.get("PYTHONPATH")])]
    # pytest cuts lines of its summary, and with them the reasons, to the width of the terminal.
    return env | {"PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "2000"}


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process group; ranks of a benchmark end with their parent."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _error_line(output: str) -> str:
    """pytest's error line, else the last line of the output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no output")
