"""Step times that are exported, modelled by Extra-P in an environment of its own, as the documentation installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from harness.cli.app import main
from tests.support.builders import make_case, make_trial
from tests.support.exports import store_sweep
from tests.support.installed import environment_variables

COUNTS = (1, 2, 4, 8, 16)
NEGATIVE = ("--options", "allow_negative_exponents=True")


@pytest.fixture(scope="module")
def extrap(tmp_path_factory) -> str:
    """The command; its dependencies contradict ours (NumPy below 2)."""
    if found := shutil.which("extrap"):
        return found
    folder = tmp_path_factory.mktemp("extrap")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet", "extrap"]
    done = subprocess.run(pip, env=environment_variables(), capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"Extra-P can't be installed: {done.stderr.strip().splitlines()[-1]}")
    return str(folder / "bin" / "extrap")


@pytest.fixture
def functions(extrap, tmp_path):
    """``functions(trials, *options)``: the models that Extra-P prints of exported trials, and its warnings."""

    def model(trials, *options: str) -> str:
        store_sweep(tmp_path / "r.sqlite", trials)
        file = tmp_path / "steps.jsonl"
        assert main(["export", "--store", str(tmp_path / "r.sqlite"), "--out", str(file)]) == 0
        command = [extrap, "--disable-progress", "--json", str(file), "--print", "functions", *options]
        done = subprocess.run(command, env=environment_variables(), capture_output=True, text=True, check=True)
        return "\n".join([done.stdout.strip(), *re.findall("UserWarning: (Number.*)", done.stderr)])

    return model


def steps(time_s, counts=COUNTS, **fields):
    return [make_trial(make_case(ranks=ranks, **fields), step_s=time_s(ranks)) for ranks in counts]


def test_growing_times_are_found(functions):
    found = functions([*steps(lambda n: 0.01 + 0.002 * n, scaling="weak"), make_trial(make_case(backend="single"))])
    constant, slope = found.removesuffix(" * ranks^(1)").split(" + ")
    assert (float(constant), float(slope)) == pytest.approx((0.01, 0.002))


def test_falling_times_need_negative_exponents(functions):
    found = functions(steps(lambda n: 0.01 + 0.8 / n), *NEGATIVE)
    constant, share = found.removesuffix(" * ranks^(-1)").split(" + ")
    assert (float(constant), float(share)) == pytest.approx((0.01, 0.8))


def test_without_the_option_a_falling_time_ends_below_zero(functions):
    found = functions(steps(lambda n: 0.01 + 0.8 / n))
    assert re.fullmatch(r"0\.\d+ \+ -0\.\d+ \* log2\(ranks\)\^\(1\)", found)


def test_four_rank_counts_are_too_few(functions):
    found = functions(steps(lambda n: 0.01 + 0.002 * n, counts=(1, 2, 4, 8), scaling="weak"))
    assert "needs to be at least 5" in found


def test_two_workloads_of_different_batches_are_both_modelled(functions):
    trials = [
        *steps(lambda n: 0.01 + 0.8 / n, batch=64),
        *steps(lambda n: 0.02 + 0.001 * n, workload="array_mean", scaling="weak", batch=1),
    ]
    found = functions(trials, *NEGATIVE)
    assert "ranks^(-1)" in found
    assert "ranks^(1)" in found
