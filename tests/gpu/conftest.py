"""The run on a GPU: tests are skipped by name without CUDA, and the figures that they record are kept.

tox run -e gpu                          everything, about ten minutes; writes docs/gpu-results.md
pytest tests/gpu --dry-run              the same code on a CPU, as far as it goes; goals are not enforced
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.plugins.backend import Session as BackendSession
from tests.support.gpu_results import PAGE, Figure, Journal, Outcome, area_of, rank_of, write_page
from tests.support.paths import ROOT

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpu", "the run on a GPU")
    group.addoption(
        "--gpu-results", type=Path, metavar="FILE", help=f"the page to write ({PAGE.name}); FILE.jsonl beside"
    )
    group.addoption("--gpu-time-limit", type=float, metavar="S", help="start no further test after S seconds")
    group.addoption("--dry-run", action="store_true", help="run on the CPU; writes only where --gpu-results is given")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "device_only: can't run on a CPU, not even in a dry run")
    session = Session(config)
    config.pluginmanager.register(session, "gpu-session")


@dataclass
class Recording:
    """The figures of the test that is running."""

    test: str
    figures: list[Figure] = field(default_factory=list)


class Session:
    """One run of these tests: which of them run, and where their figures go."""

    def __init__(self, config: pytest.Config) -> None:
        # Without the options where pytest was called for a folder above: they are known too late then.
        self.dry = bool(config.getoption("--dry-run", False))
        self.limit_s: float | None = config.getoption("--gpu-time-limit", None)
        self.began = time.monotonic()
        self.missing = None if self.dry else cuda_missing_reason()
        page: Path | None = config.getoption("--gpu-results", None)
        if page is None and not self.dry and self.missing is None:
            page = PAGE
        self.page = page
        self.journal = Journal(page.with_suffix(".jsonl")) if page else None
        self.recording: Recording | None = None
        self.started = False
        self.late: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        ours = [item for item in items if HERE in item.path.parents]
        for item in ours:
            if self.missing:
                item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {self.missing}"))
            elif self.dry and item.get_closest_marker("device_only"):
                item.add_marker(pytest.mark.skip(reason="can't run on a CPU"))
        ours.sort(key=lambda item: rank_of(item.path.name))
        items[:] = [*(item for item in items if item not in ours), *ours]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.limit_s is not None and time.monotonic() - self.began > self.limit_s:
            # Not recorded: the page keeps what an earlier run has measured.
            self.late.add(test_of(item))
            pytest.skip(f"the time limit of {self.limit_s:g} s is over")

    def record(self, figure: Figure) -> None:
        assert self.recording is not None
        self.recording.figures.append(figure)
        self.write(figure)

    def write(self, entry: Figure | Outcome) -> None:
        if self.journal is None or self.missing or self.page is None:
            return
        if not self.started:
            self.journal.begin(describe_machine(self.dry))
            self.started = True
        self.journal.record(entry)
        write_page(self.journal.path, self.page)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Run the test; fail it where a goal was missed, once all its figures are recorded."""
        self.recording = Recording(test_of(pyfuncitem))
        try:
            result = yield
        finally:
            recording, self.recording = self.recording, None
        missed = [
            f"{figure.name}: {figure.value:.4g} {figure.unit}, goal {figure.goal}"
            for figure in recording.figures
            if figure.missed
        ]
        if missed and not self.dry:
            pytest.fail("; ".join(missed), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        report = yield
        ours = HERE in item.path.parents and test_of(item) not in self.late
        if ours and (report.when == "call" or report.outcome != "passed"):
            self.write(Outcome(test_of(item), report.outcome, reason_of(report), call.duration))
        return report

    def pytest_sessionfinish(self) -> None:
        if self.page is not None and self.journal is not None:
            write_page(self.journal.path, self.page)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.page is not None:
            terminalreporter.section("results")
            terminalreporter.write_line(f"{self.page}")


def test_of(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def reason_of(report: Any) -> str:
    """Why a test was skipped or failed, in one line."""
    if report.outcome == "passed":
        return ""
    if report.outcome == "skipped":
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)


def cuda_missing_reason() -> str | None:
    """Why there is no device here; ``None`` where there is one."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built for CPUs"
    return None if torch.cuda.is_available() else f"torch {torch.__version__} finds none"


def describe_machine(dry: bool) -> dict[str, str]:
    """What a figure depends on: device, driver, versions, commit and date."""
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    known = {"date": when, "commit": describe_commit()}
    if dry:
        return {**known, "device": "a CPU (dry run: not a measurement)"}
    import torch

    count = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_name(index) for index in range(count)})
    driver, nvml = driver_versions()
    return {
        **known,
        "device": f"{count} × {', '.join(names)}" if count > 1 else names[0],
        "driver": driver,
        "NVML": nvml,
        "CUDA": torch.version.cuda or "unknown",
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "none",
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }


def describe_commit() -> str:
    """The commit, and whether anything but the results differs from it."""
    try:
        commit = run_git("rev-parse", "--short=12", "HEAD")
    except OSError:  # no git
        return "unknown"
    if commit.returncode:
        return "unknown"
    results = [f":(exclude){PAGE.with_suffix(suffix).relative_to(ROOT)}" for suffix in (".md", ".jsonl")]
    changed = run_git("status", "--porcelain", "--", ".", *results).stdout.strip()
    return f"{commit.stdout.strip()}, changed" if changed else commit.stdout.strip()


def run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def driver_versions() -> tuple[str, str]:
    """The versions of the driver and of NVML."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetNVMLVersion()
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as problem:
        return (f"unknown ({problem})",) * 2


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> Any:
    """The device to measure on, a ``torch.device``: the first GPU; in a dry run the CPU."""
    import torch

    return torch.device("cpu") if request.config.getoption("--dry-run", False) else torch.device("cuda", 0)


@pytest.fixture
def session(device: Any) -> BackendSession:
    """The session of the only rank, on the device."""
    import torch

    torch.set_num_threads(1)
    return BackendSession(device="cpu" if device.type == "cpu" else f"{device.type}:{device.index}")


@pytest.fixture
def record_figure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``record_figure(name, value, unit, low=None, high=None, note="", at_least=None, at_most=None)``.

    Keeps a measured number at once. ``low`` and ``high`` are its 95 % interval. Where the goal (``at_least``,
    ``at_most``) is missed the test fails after its last line.
    """
    session: Session = request.config.pluginmanager.get_plugin("gpu-session")
    test = test_of(request.node)

    def record(
        name: str,
        value: float,
        unit: str,
        low: float | None = None,
        high: float | None = None,
        note: str = "",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        bounds = {"at_least": at_least, "at_most": at_most}
        figure = Figure(test, name, float(value), unit, low, high, note=note, **bounds)
        print(f"{area_of(request.path.name)}: {name}: {figure.value:.4g} {unit} {note}".rstrip())
        session.record(figure)

    return record
