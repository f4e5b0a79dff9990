"""Step times for Extra-P, read by its command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.support.builders import make_case, make_trial
from tests.support.exports import curve


def points(text: str) -> list[tuple]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.keys() == {"params", "callpath", "metric", "value"} for line in lines)
    assert {line["metric"] for line in lines} <= {"step_s"}
    return [(line["callpath"], tuple(line["params"].items()), line["value"]) for line in lines]


def test_extrap_lines(exported):
    output = exported(curve(counts=(2, 1)), "--format", "extrap")
    path = "synthetic/ddp-gloo/strong/batch=8/threads=1/cpu/seed=0"
    assert output.err == ""
    assert points(output.out) == [
        (path, (("ranks", 1),), 0.1),
        (path, (("ranks", 1),), 0.101),
        (path, (("ranks", 2),), pytest.approx(0.1 / 2**0.5)),
        (path, (("ranks", 2),), pytest.approx(0.1 / 2**0.5 + 0.001)),
    ]


def test_extrap_paths_have_the_same_points(exported):
    """Extra-P refuses the whole file otherwise."""
    trials = [*curve("single", (1,), 1), *curve("ddp", (1, 2, 4), 1), *curve("horovod", (1, 2, 4, 8), 1)]
    trials += curve("ddp", (16,), 1, flags=("oversubscribed",))
    output = exported(trials, "--format", "extrap")
    found: dict[str, list] = {}
    for path, params, _ in points(output.out):
        found.setdefault(path.split("/")[1], []).append(dict(params)["ranks"])
    assert found == {"ddp-gloo": [1, 2, 4], "horovod-gloo": [1, 2, 4]}
    assert "left out: 1 rows that failed, were skipped or feed no scaling claim" in output.err
    assert "single-gloo/strong/batch=8/threads=1/cpu/seed=0: lacks ranks 2, 4, which others have" in output.err
    assert "horovod-gloo/strong/batch=8/threads=1/cpu/seed=0: ranks 8, which others lack" in output.err


def test_extrap_varying_fields_are_parameters(exported):
    trials = [trial for batch in (8, 16) for trial in curve(counts=(1, 2), rounds=1, batch=batch)]
    trials += [trial for batch in (8, 16) for trial in curve("horovod", (1, 2), 1, batch=batch)]
    found = points(exported(trials, "--format", "extrap").out)
    assert {path for path, *_ in found} == {
        f"synthetic/{name}-gloo/strong/threads=1/cpu/seed=0" for name in ("ddp", "horovod")
    }
    assert [dict(params) for _, params, _ in found[:4]] == [
        {"ranks": ranks, "batch": batch} for ranks in (1, 2) for batch in (8, 16)
    ]


# Its dependencies contradict ours (numpy below 2), so that it lives in an environment of its own.
@pytest.mark.skipif(shutil.which("extrap") is None, reason="Extra-P's command `extrap` is not on the PATH")
def test_extrap_finds_the_exact_law(tmp_path, exported):
    trials = [make_trial(make_case(ranks=n), step_s=0.01 + 0.002 * n) for n in (1, 2, 4, 8, 16)]
    trials += [make_trial(make_case(backend="single", ranks=1))]
    exported(trials, "--out", str(tmp_path / "steps.jsonl"))
    command = ["extrap", "--disable-progress", "--json", "steps.jsonl", "--print", "functions"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    constant, slope = done.stdout.strip().removesuffix(" * ranks^(1)").split(" + ")
    assert (float(constant), float(slope)) == pytest.approx((0.01, 0.002))
