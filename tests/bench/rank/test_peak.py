"""How large the product of a peak is, and what it multiplies."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.plugins.backend import Session
from bench.rank.peak import choose_side, measure_peak, product_of
from tests.support import nvml_library
from tests.support.paths import ROOT


def device(full_rate, filled_from, memory_side=2**20):
    """Seconds of a product on a device whose rate grows with the matrices until they fill it."""

    def seconds(side):
        if side > memory_side:
            raise MemoryError
        return 2 * side**3 / (full_rate * min(1, side / filled_from))

    return seconds


H200_S, CORE_S = 0.1, 0.025


@pytest.mark.parametrize(
    ("seconds", "first", "max_s", "side"),
    [
        (device(1e11, 128), 512, CORE_S, 512),  # a core: 2.7 ms, and 21 ms would reach no more
        (device(1e9, 16), 128, CORE_S, 128),  # a type that it emulates
        (device(50.7e12, 4096), 512, H200_S, 4096),  # an H200 in float32: 2.7 ms
        (device(761e12, 8192), 128, H200_S, 16_384),  # in bfloat16: 1.4 ms at 8192, too short
        (device(50.7e12, 2**15), 512, H200_S, 4096),  # not filled yet, but the next product would take too long
        (device(761e12, 8192, memory_side=4096), 128, H200_S, 4096),  # the memory is others'
    ],
)
def test_products_are_as_large_as_the_device_needs(seconds, first, max_s, side):
    assert choose_side(seconds, first, 16_384, max_s) == side


def test_without_memory_for_the_smallest_there_is_none():
    with pytest.raises(MemoryError):
        choose_side(device(1e12, 1, memory_side=64), 128, 16_384, 0.1)


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16", "float16", "float8_e4m3fn"])
def test_products_are_of_random_numbers_and_right(dtype):
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    with product_of(dtype, 64, "cpu") as product:
        found = product().float()
        assert bool(torch.isfinite(found).all())
        assert found.unique().numel() > 1000
        # Sums of 64 products of normal numbers.
        assert 6 < float(found.std()) < 10
    assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.mark.frameworks
def test_a_processor_has_one_type_and_no_limits():
    found = measure_peak(Session(), "bfloat16")
    assert found.how.startswith("bfloat16 product of random ")
    assert found.precisions == ()
    assert (found.clock_hz, found.power_cap_w) == (None, None)
    assert found.limits_reason


LIMITS = """
import json, os, sys
from bench.telemetry.probes.nvml.limits import read_gpu_limits
found = {}
for settings, uuid in json.loads(sys.argv[1]):
    os.environ["SUBSTITUTE_NVML"] = settings
    found[settings] = read_gpu_limits(uuid)
print(json.dumps(found))
"""
GPU_1, SLICE_1 = "GPU-10000000-0000-4000-8000-000000000000", "MIG-02000000-0000-4000-8000-000000000000"


@pytest.mark.slow
def test_the_clock_and_the_power_limit_are_read_by_uuid(tmp_path):
    wanted = [
        ("gpus=2,cap=650", GPU_1),
        ("gpus=2,mig=0", SLICE_1),
        ("gpus=1", GPU_1),
        ("gpus=2,fault=nvmlDeviceGetEnforcedPowerLimit:3", GPU_1),
        ("fault=nvmlInitWithFlags:9", GPU_1),
    ]
    folder = nvml_library.build(tmp_path)
    env = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", LIMITS, json.dumps(wanted)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "gpus=2,cap=650": [1.98e9, 650, None],
        "gpus=2,mig=0": [1.98e9, 700, None],
        "gpus=1": [None, None, "NVML: not found"],
        "gpus=2,fault=nvmlDeviceGetEnforcedPowerLimit:3": [1.98e9, None, "power limit: not supported by this device"],
        "fault=nvmlInitWithFlags:9": [None, None, "NVML: the NVIDIA driver is not loaded"],
    }
