"""The peak rates of a GPU in every type, and the numbers that they are measured on. About 15 s of device time."""

from __future__ import annotations

import time

import pytest

from bench.rank.clock import time_steps
from bench.rank.peak import measure_peak, product_of
from tests.support.alternating import alternating_ratio

SIDE = {"cuda": 8192, "cpu": 64}
PAIRS = 20


def test_peak_of_every_type(session, record_figure):
    """Peak rates of a matrix product, and the clock under its load"""
    began_s = time.perf_counter()
    found = measure_peak(session, "float32")
    record_figure("time that measuring all peaks takes", time.perf_counter() - began_s, "s")
    record_figure("peak, float32", found.flop_s, "FLOP/s", note=found.how)
    record_figure("copy bandwidth", found.bytes_s, "B/s")
    if session.device == "cpu":
        return
    assert found.limits_reason is None
    record_figure("SM clock while it multiplies", found.clock_hz, "Hz")
    record_figure("power limit", found.power_cap_w, "W")
    rates = {other.dtype: other.flop_s for other in found.precisions if other.flop_s is not None}
    for dtype, rate in rates.items():
        record_figure(f"peak, {dtype}", rate, "FLOP/s")
    reasons = {other.dtype: other.reason for other in found.precisions if other.flop_s is None}
    assert set(reasons) <= {"float8_e4m3fn"}, reasons
    assert rates["bfloat16"] > found.flop_s


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_products_of_ones_beside_random_numbers(session, record_figure, dtype):
    """What a product of ones reaches beside one of random numbers"""
    import torch

    side = SIDE[session.device.split(":")[0]]
    stored = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    ones, output = (torch.ones(side, side, device=session.device, dtype=stored) for _ in range(2))
    with product_of(dtype, side, session.device) as product:

        def seconds(multiply) -> float:
            return sum(time_steps(multiply, 10, session.device))

        found = alternating_ratio(
            lambda: seconds(product), lambda: seconds(lambda: torch.mm(ones, ones, out=output)), PAIRS
        )
    note = f"{side}×{side}, {PAIRS} alternating pairs of 10 products"
    record_figure(f"rate on ones ÷ on random numbers, {dtype}", found.median, "1", found.low, found.high, note)
