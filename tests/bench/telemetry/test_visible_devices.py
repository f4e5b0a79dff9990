"""Which GPUs a CUDA program would use, by ``CUDA_VISIBLE_DEVICES``."""

from __future__ import annotations

import pytest

from bench.telemetry.probes.nvml.visible_devices import GpuInfo, MigSlice, choose_devices

WHOLE = (GpuInfo("GPU-aa11", "H100"), GpuInfo("GPU-aa22", "H100"), GpuInfo("GPU-bb", "H100"))
PARTS = (MigSlice("MIG-cc1", "1g", 1, 0), MigSlice("MIG-cc2", "1g", 11, 0))
CUT = (GpuInfo("GPU-aa11", "H100", mig=True, slices=PARTS), GpuInfo("GPU-bb", "H100"))


@pytest.mark.parametrize(
    ("visible", "gpus", "chosen"),
    [
        (None, WHOLE, ["GPU-aa11", "GPU-aa22", "GPU-bb"]),
        (None, CUT, ["MIG-cc1", "MIG-cc2", "GPU-bb"]),
        ("2, 0", WHOLE, ["GPU-bb", "GPU-aa11"]),
        ("", WHOLE, []),
        ("-1", WHOLE, []),
        ("NoDevFiles", WHOLE, []),
        ("0,-1,1", WHOLE, ["GPU-aa11"]),
        ("GPU-b", WHOLE, ["GPU-bb"]),
        ("GPU-aa22,0", WHOLE, ["GPU-aa22", "GPU-aa11"]),
        ("MIG-cc2", CUT, ["MIG-cc2"]),
        ("MIG-GPU-aa11/1/0", CUT, ["MIG-cc1"]),
        ("0", CUT, ["MIG-cc1", "MIG-cc2"]),
        ("GPU-aa", CUT, ["MIG-cc1", "MIG-cc2"]),
    ],
)
def test_visible_devices_are_those_that_cuda_would_use(visible, gpus, chosen):
    assert choose_devices(visible, gpus) == (tuple(chosen), ())


@pytest.mark.parametrize(
    ("visible", "gpus", "chosen", "problem"),
    [
        ("0,7,1", WHOLE, ["GPU-aa11"], "stops at '7'"),
        ("GPU-aa,2", WHOLE, [], "stops at 'GPU-aa'"),  # two GPUs begin so
        ("MIG-cc", CUT, [], "stops at 'MIG-cc'"),
        ("MIG-GPU-aa11/11", CUT, [], "stops at 'MIG-GPU-aa11/11'"),  # instances are named in full
        ("MIG-cc1", WHOLE, [], "stops at 'MIG-cc1'"),
        ("all", WHOLE, [], "stops at 'all'"),
        ("0,GPU-aa11", WHOLE, [], "twice"),
        (None, (GpuInfo("GPU-aa", "H100", mig=True),), [], "has no slices"),
    ],
)
def test_an_entry_that_cuda_would_not_understand_is_a_problem(visible, gpus, chosen, problem):
    choice = choose_devices(visible, gpus)
    assert choice.ids == tuple(chosen)
    assert [problem in text for text in choice.problems] == [True]


@pytest.mark.parametrize(
    ("visible", "order", "problems"), [("0", None, 1), ("0", "PCI_BUS_ID", 0), ("GPU-bb", None, 0), (None, None, 0)]
)
def test_an_index_over_different_models_depends_on_the_order(visible, order, problems):
    gpus = (GpuInfo("GPU-aa", "A100"), GpuInfo("GPU-bb", "H100"))
    assert len(choose_devices(visible, gpus, order).problems) == problems
