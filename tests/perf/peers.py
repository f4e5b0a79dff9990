"""The rules that others judge a night by, as their documentation says: seconds in, one alarm or none for each series.

Where a package can be had, its own code decides; the three at the end of :data:`PEERS` are written down here from what
is published about them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import parse_compare_fail
from scipy.stats import mannwhitneyu

from bench.host.installation import cache_folder
from reports.regression.robust import Array

Alarms = Callable[[Array], Array]
"""Seconds of shape (series, nights, runs, samples), the newest night last → for each series, whether it is slower."""

SCRIPTS = Path(__file__).with_name("scripts")
PYPERF, ASV, OTAVA = "pyperf==2.10.0", "asv==0.6.6", "apache-otava==0.8.0"
RESAMPLES = 1000
"""Criterion draws 100,000; a p-value held against 0.05 does not need them."""


class NotInstalled(Exception):
    """A package that could not be had, with pip's last line."""


@dataclass(frozen=True)
class Peer:
    """A rule, how many checks its speed allows, and the same for the power at each slowdown."""

    name: str
    alarms: Alarms
    checks: int
    powered: int


def python_with(requirement: str) -> Path:
    """The interpreter of an environment that holds one package, made on first use. Raises :class:`NotInstalled`."""
    folder = cache_folder("peers") / f"{requirement}-python{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists():
        return python
    # Our own pins are not theirs.
    env = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement],
    ):
        ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if ran.returncode:
            said = (ran.stderr or ran.stdout).strip().splitlines() or ["no reason given"]
            raise NotInstalled(f"{requirement}: {said[-1]}")
    done.touch()
    return python


def _night(seconds: Array, which: int) -> Array:
    """All samples of a night in one heap, as these tools have them. Shape (series, runs × samples)."""
    return seconds[:, which].reshape(len(seconds), -1)


def _pytest_benchmark(check: str, runs: int, seconds: Array) -> Array:
    """`--benchmark-compare --benchmark-compare-fail=CHECK`: against the newest saved run. ``runs``: of each night."""
    seconds = seconds[:, :, :runs]
    rule = parse_compare_fail(check)

    def field(samples: Array) -> dict[str, float]:
        stats = Stats()
        for sample in samples.tolist():
            stats.update(sample)
        return {rule.field: getattr(stats, rule.field)}

    nights = zip(_night(seconds, -1), _night(seconds, -2), strict=True)
    return np.asarray([bool(rule.fails(field(newest), field(before))) for newest, before in nights])


def _pyperf(seconds: Array) -> Array:
    """`pyperf compare_to`, each run of a night as one of pyperf's; an alarm is what it lists as slower."""
    python = python_with(PYPERF)
    with tempfile.TemporaryDirectory() as folder:
        for name, which in (("before.json", -2), ("newest.json", -1)):
            benchmarks = [
                {"metadata": {"name": f"series{row}", "unit": "second"}, "runs": [{"values": run} for run in runs]}
                for row, runs in enumerate(seconds[:, which].tolist())
            ]
            (Path(folder) / name).write_text(json.dumps({"benchmarks": benchmarks, "version": "1.0"}))
        command = [str(python), "-m", "pyperf", "compare_to", "--group-by-speed", "before.json", "newest.json"]
        said = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    slower, listing = np.zeros(len(seconds), dtype=bool), False
    for line in said.splitlines():
        if line.endswith("):"):
            listing = line.startswith("Slower (")
        elif listing and line.startswith("- series"):
            slower[int(line.removeprefix("- series").partition(":")[0])] = True
    return slower


def _answered(requirement: str, script: str, arguments: tuple[str, ...], asked: list[object]) -> Array:
    command = [str(python_with(requirement)), str(SCRIPTS / script), *arguments]
    ran = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    return np.asarray(json.loads(ran.stdout))


def _asv_compare(factor: str, seconds: Array) -> Array:
    """`asv compare --factor FACTOR` of the newest night's result and the one before."""
    nights = seconds[:, -2:].reshape(len(seconds), 2, -1)
    return _answered(ASV, "asv_rules.py", ("compare", factor), nights.tolist())


def _asv_publish(seconds: Array) -> Array:
    """The regressions that `asv publish` lists, of those that begin in the newest nights."""
    return _answered(ASV, "asv_rules.py", ("publish",), seconds.reshape(*seconds.shape[:2], -1).tolist())


def _otava(seconds: Array) -> Array:
    """`otava analyze` of the nightly means: a change for the worse in the newest nights."""
    return _answered(OTAVA, "otava_rule.py", (), seconds.mean((2, 3)).tolist())


def _mann_whitney(seconds: Array) -> Array:
    newest, before = _night(seconds, -1), _night(seconds, -2)
    p = mannwhitneyu(newest, before, axis=1, alternative="two-sided").pvalue
    return (p < 0.05) & (np.median(newest, axis=1) > np.median(before, axis=1))


def _criterion(seconds: Array) -> Array:
    """p < 0.05 by a bootstrapped t-test, and the whole 95 % interval of the mean's change above 1 %.

    https://bheisler.github.io/criterion.rs/book/analysis.html (Comparison), with the defaults of its source.
    """
    rng = np.random.default_rng(0)
    found = []
    for newest, before in zip(_night(seconds, -1), _night(seconds, -2), strict=True):
        drawn = rng.choice(np.concatenate([newest, before]), (RESAMPLES, len(newest) + len(before)))
        t = _welch(drawn[:, : len(newest)], drawn[:, len(newest) :])
        below = int((t < _welch(newest, before)).sum())
        p = 2 * min(below, RESAMPLES - below) / RESAMPLES
        means = [rng.choice(night, (RESAMPLES, len(night))).mean(-1) for night in (newest, before)]
        found.append(p < 0.05 and np.quantile(means[0] / means[1] - 1, 0.025) > 0.01)
    return np.asarray(found)


def _welch(one: Array, other: Array) -> Array:
    error = np.sqrt(one.var(-1, ddof=1) / one.shape[-1] + other.var(-1, ddof=1) / other.shape[-1])
    return np.asarray((one.mean(-1) - other.mean(-1)) / error)


def _conbench(seconds: Array) -> Array:
    """Lookback z-score above 5, of the minimum, against up to 100 nights before.

    https://github.com/conbench/conbench/blob/main/docs/pages/lookback_zscore.md and its source: the spread is that of
    each night's residual from the mean of those before it; jumps that turn back at once are left out.
    """
    minima = pd.DataFrame(seconds.min((2, 3)).T)
    history = minima.iloc[-101:-1].reset_index(drop=True)
    jump = history.diff()
    usual = jump.where((jump >= jump.quantile(0.05)) & (jump <= jump.quantile(0.95)))
    shift = ((jump - usual.expanding().mean()) / usual.expanding().std()).abs() > 5
    kept = history.where(~(shift & shift.shift(-1, fill_value=False)))
    residual = kept - kept.expanding().mean().shift(1).combine_first(kept)
    return ((minima.iloc[-1] - kept.mean()) / residual.std() > 5).to_numpy()


BENCHMARK = f"pytest-benchmark {version('pytest-benchmark')}"
# fmt: off
PEERS = (
    Peer(f"{BENCHMARK}, mean:5%, one run a night", partial(_pytest_benchmark, "mean:5%", 1), 4000, 1000),
    Peer(f"{BENCHMARK}, mean:5%, all five as one", partial(_pytest_benchmark, "mean:5%", 5), 4000, 1000),
    Peer(f"{BENCHMARK}, min:5%, one run a night", partial(_pytest_benchmark, "min:5%", 1), 4000, 1000),
    Peer(f"{BENCHMARK}, min:5%, all five as one", partial(_pytest_benchmark, "min:5%", 5), 4000, 1000),
    Peer("pyperf 2.10.0, compare_to", _pyperf, 4000, 500),
    Peer("asv 0.6.6, compare --factor 1.05", partial(_asv_compare, "1.05"), 4000, 500),
    Peer("asv 0.6.6, compare (its default, 1.1)", partial(_asv_compare, "1.1"), 4000, 500),
    Peer("asv 0.6.6, publish (its default, 5 %)", _asv_publish, 800, 200),
    Peer("apache-otava 0.8.0, analyze", _otava, 4000, 500),
    Peer("Mann–Whitney on all samples, p < 0.05", _mann_whitney, 4000, 1000),
    Peer("criterion's rule, as we read it", _criterion, 1000, 200),
    Peer("conbench's rule on the minimum, as we read it", _conbench, 4000, 1000),
)
# fmt: on
