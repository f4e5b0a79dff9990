"""Sizes and distances of tensors, piece by piece, beside those of whole tensors in float64."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

from bench.rank.tensors import CPU_PIECE, distance, is_finite, norm, same_bits  # noqa: E402

GENERATOR = torch.Generator().manual_seed(1)


def made(shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR).to(dtype)


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(made((2 * CPU_PIECE + 7,)), id="several pieces"),
        pytest.param(made((8, 3, 5, 5)).contiguous(memory_format=torch.channels_last), id="channels last"),
        pytest.param(made((300, 200), torch.bfloat16).t(), id="bfloat16, transposed"),
        pytest.param(made((CPU_PIECE,), torch.float64), id="float64"),
        pytest.param(made(()), id="a scalar"),
        pytest.param(made((0, 4)), id="empty"),
    ],
)
def test_sizes_and_distances_are_those_of_whole_tensors(tensor):
    other = tensor + 0.01 * made(tensor.shape)
    assert norm([tensor, None]) == pytest.approx(float(tensor.double().norm()), rel=1e-12)
    assert distance(tensor, other) == pytest.approx(float((tensor.double() - other.double()).norm()), rel=1e-12)
    assert distance(None, other) == norm([other])


def test_what_is_not_finite_anywhere_is_not_finite():
    tensor = made((CPU_PIECE + 1,))
    broken = tensor.clone()
    broken[-1] = math.nan
    assert math.isnan(distance(broken, tensor))
    broken[-1] = math.inf
    assert distance(broken, tensor) == math.inf


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([1.0, -2.0], True),
        ([1.0, math.nan], False),
        ([math.inf, -math.inf], False),
        ([60000.0, 60000.0], True),
        ([], True),
    ],
)
def test_a_sum_that_exceeds_the_type_is_of_finite_numbers(values, finite):
    assert is_finite(torch.tensor(values, dtype=torch.float16)) is finite


def test_bits_are_compared_and_not_numbers():
    tensor = made((8, 3, 5, 5)).contiguous(memory_format=torch.channels_last)
    assert same_bits(tensor, tensor.clone())
    assert not same_bits(tensor, tensor.nextafter(tensor + 1))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.int32)), "zeros of another type"
    assert not same_bits(torch.zeros(2), torch.zeros(3))
