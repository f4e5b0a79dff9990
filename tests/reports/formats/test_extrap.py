"""Step times for Extra-P, read by its command."""

from __future__ import annotations

import json

import pytest

from tests.support.exports import curve


def points(text: str) -> list[tuple]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.keys() == {"params", "callpath", "metric", "value"} for line in lines)
    assert {line["metric"] for line in lines} <= {"step_s"}
    return [(line["callpath"], tuple(line["params"].items()), line["value"]) for line in lines]


def test_extrap_lines(exported):
    output = exported(curve(counts=(2, 1)), "--format", "extrap")
    path = "synthetic/ddp-gloo/strong/batch=8/threads=1/cpu/seed=0"
    assert "left out" not in output.err
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


def test_another_workload_has_another_batch(exported):
    """The batch of a workload is no parameter of the others, which would then lack its points."""
    trials = curve(counts=(1, 2), rounds=1, batch=64)
    trials += curve(counts=(1, 2), rounds=1, workload="array_mean", scaling="weak", batch=1)
    output = exported(trials, "--format", "extrap")
    assert {(path, params) for path, params, _ in points(output.out)} == {
        (f"{path}/threads=1/cpu/seed=0", (("ranks", ranks),))
        for path in ("synthetic/ddp-gloo/strong/batch=64", "array_mean/ddp-gloo/weak/batch=1")
        for ranks in (1, 2)
    }
    assert "left out" not in output.err


def test_a_batch_that_varies_in_one_workload_only_makes_curves_of_their_own(exported):
    trials = [trial for batch in (8, 16) for trial in curve(counts=(1, 2), rounds=1, batch=batch)]
    trials += curve(counts=(1, 2), rounds=1, workload="array_mean", batch=1)
    found = points(exported(trials, "--format", "extrap").out)
    assert {dict(params).keys() == {"ranks"} for _, params, _ in found} == {True}
    assert len({path for path, *_ in found}) == 3


def test_what_extrap_needs_is_said(exported):
    notes = exported(curve(counts=(1, 2)), "--format", "extrap").err.splitlines()
    assert notes == [
        "note: Extra-P asks for 5 values of ranks, there are 2",
        "note: step times fall under strong scaling: run extrap with --options allow_negative_exponents=True",
    ]


def test_nothing_is_said_where_nothing_is_needed(exported):
    trials = curve(counts=(1, 2, 4, 8, 16), scaling="weak")
    assert exported(trials, "--format", "extrap").err == ""
