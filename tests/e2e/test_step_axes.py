"""The options of a step as axes of a sweep: each value is proven, measured against its own peak, and named."""

from __future__ import annotations

import shutil

import pytest

from reports.analysis.roofline import DISTURBED

SMALL_TRANSFORMER = {"model": "transformer", "width": 32, "heads": 2, "sequence": 8, "vocabulary": 50, "unit": "tokens"}
PEAKS = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def settings(**options) -> list[str]:
    return [word for name, value in options.items() for word in ("--set", f"synthetic.{name}={value}")]


def sweep(harness, *arguments, ranks="1,2", keeping=()):
    base = ("--backends", "ddp", "--workloads", "synthetic", "--ranks", ranks, "--batch", "16")
    document = harness.lean_sweep(*base, *arguments, keeping=keeping)
    assert [cell["outcome"] for cell in document["cells"]] == ["ok"] * len(document["cells"])
    assert {cell["same_work"]["verdict"] for cell in document["cells"]} == {"same"}
    return document["cells"]


def test_precisions_are_proven_and_held_against_their_own_peaks(harness):
    arguments = settings(**SMALL_TRANSFORMER, precision="float32,bf16,fp16", recompute="blocks")
    cells = sweep(harness, *arguments, keeping=("roofline",))
    assert len(cells) == 6
    for cell in cells:
        precision = cell["workload_options"].get("precision", "float32")
        assert cell["throughput"]["unit"] == "tokens/s"
        roofline = cell["roofline"]
        if roofline is None:
            assert cell["roofline_reason"] == DISTURBED
            continue
        assert roofline["dtype"] == PEAKS[precision]
        assert roofline["hfu"]["value"] > roofline["mfu"]["value"], "activations are computed twice"
    scaled = [cell for cell in cells if cell["workload_options"].get("precision") == "fp16"]
    assert all(cell["readings"]["skipped_updates"]["value"] == 0 for cell in scaled)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_steps_are_proven_and_compiled_before_the_window(harness):
    # One cell: a compiler takes a rank ten seconds and more. bfloat16 rounds other numbers when it is compiled.
    arguments = settings(model="toy", precision="bf16", compile="default")
    (cell,) = sweep(harness, *arguments, "--timeout", "200", ranks="2")
    assert cell["readings"]["compiled_graphs"]["value"] >= 1
    assert cell["readings"]["compile_time"]["value"] > cell["step"]["value"]
    harness.nothing_left()
