"""The peak rates of a rank's device: one side of a roofline. The other is in :mod:`bench.rank.roofline`.

The peak rates are those of a matrix product and of a copy, measured on all ranks at the same time, since the ranks of a
node share its memory and its clocks. Each is the best of a few, as in STREAM (McCalpin 1995,
https://www.cs.virginia.edu/stream/). Products and copies alternate, so that a busy moment of the machine does not
affect all of one kind. The matrices are random: on an H200, products of ones were 9 % faster in bfloat16 and in
TensorFloat-32, since bits that don't change cost no power.

The peak that a step is held against is that of the type in which it multiplies. A GPU's other types are measured beside
it, since they differ by more than a factor of ten. TensorFloat-32 is a way to multiply float32, which is set for the
products that ask for it alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.core.step_measures import DevicePeak, PrecisionPeak
from bench.host.logs import describe_exception
from bench.host.resources import device_uuid
from bench.plugins.backend import Session
from bench.rank.clock import synchronize, time_steps
from bench.telemetry.probes.nvml.limits import GpuLimits, read_gpu_limits

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float8_e4m3fn")
"""The types of a GPU that are measured, from the widest to the narrowest."""
ROUNDS = 8
PRODUCTS_PER_ROUND = 2
OTHER_PRODUCTS = 6
TRIES = 5
"""Of a side, of which the fastest counts: others may use the cores at the moment."""
MIN_PRODUCT_S = 2e-3
MAX_PRODUCT_S = {"cpu": 25e-3, "cuda": 100e-3}
MIN_GAIN = 0.05
SIDE_RANGE = (512, 16_384)
MIN_SLOW_SIDE = 128
"""A processor without instructions for a type multiplies in it up to a hundred times slower than in float32."""
COPY_MIB = {"cpu": 64, "cuda": 512}
FP8_CAPABILITY = (8, 9)
"""Of the first GPUs that multiply 8-bit floating-point numbers (Ada Lovelace)."""
LOAD_S, READ_AFTER_S = 0.25, 0.15
"""A GPU multiplies for so long while its clock is read, after so long: a driver renews its readings ten times a
second."""
NO_MEMORY_FOR_PEAK = "no room on the device for the operands that measure its peak"


def measure_peak(session: Session, dtype: str = "float32") -> DevicePeak | None:
    """Measure the peak rates of this rank's device, which takes 0.3 to 0.5 s on a CPU.

    Args:
        session: The group of ranks.
        dtype: The type to multiply in: a name of torch's, or ``tf32``.

    Returns:
        ``None`` where the device of a rank has no memory for the operands.
    """
    device = session.device
    mebibytes = COPY_MIB[device.split(":")[0]]
    copy = _prepare_copy(device, mebibytes * 2**20)
    side = session.largest(math.inf if copy is None else _side_of(dtype, device)[0])
    if copy is None or side == math.inf:
        return None
    products: list[float] = []
    copies: list[float] = []
    with product_of(dtype, int(side), device) as product:
        for _ in range(ROUNDS):
            session.barrier()
            # The first product of a round finds the caches as the copy left them.
            products += time_steps(product, PRODUCTS_PER_ROUND, device)
            session.barrier()
            copies += time_steps(copy, 1, device)
        limits = _limits_under_load(product, min(products), session)
    rate = 2 * side**3 / min(products)
    return DevicePeak(
        flop_s=rate,
        bytes_s=2 * mebibytes * 2**20 / min(copies),
        dtype=dtype,
        how=f"{dtype} product of random {side:.0f}×{side:.0f} matrices, copy of {mebibytes} MiB, best of "
        f"{len(products)} and {len(copies)}, all ranks at once",
        clock_hz=limits.clock_hz,
        power_cap_w=limits.power_cap_w,
        limits_reason=limits.reason,
        precisions=() if device == "cpu" else _other_precisions(session, dtype),
    )


def _other_precisions(session: Session, measured: str) -> tuple[PrecisionPeak, ...]:
    """The peaks of the other types of a GPU, each with the reason where there is none."""
    return tuple(_precision(session, name) for name in PRECISIONS if name != measured)


def _precision(session: Session, dtype: str) -> PrecisionPeak:
    reason = unsupported_reason(dtype, session.device)
    side, reason = _side_of(dtype, session.device) if reason is None else (math.inf, reason)
    # A rank that can't multiply in a type still takes its part in what all ranks do.
    side = session.largest(side)
    if side == math.inf:
        return PrecisionPeak(dtype=dtype, flop_s=None, reason=reason or "another rank can't measure it")
    with product_of(dtype, int(side), session.device) as product:
        session.barrier()
        times = time_steps(product, OTHER_PRODUCTS, session.device)
    return PrecisionPeak(dtype=dtype, flop_s=2 * side**3 / min(times))


def unsupported_reason(dtype: str, device: str) -> str | None:
    """Why a device, or this version of torch, does not multiply in a type; ``None`` where it does."""
    import torch

    if dtype != "float8_e4m3fn":
        return None
    if not (hasattr(torch, dtype) and hasattr(torch, "_scaled_mm")):
        return f"torch {torch.__version__} has no product of this type"
    if device != "cpu" and (capability := torch.cuda.get_device_capability(device)) < FP8_CAPABILITY:
        needed, found = (".".join(map(str, version)) for version in (FP8_CAPABILITY, capability))
        return f"it needs compute capability {needed}, and this GPU has {found}"
    return None


def _prepare_copy(device: str, size: int) -> Callable[[], Any] | None:
    """A copy of ``size`` bytes; ``None`` without memory for it."""
    import torch

    try:
        source = torch.rand(size // 4, device=device)
        target = torch.empty_like(source)
    except RuntimeError:
        return None
    return lambda: target.copy_(source)


def _side_of(dtype: str, device: str) -> tuple[float, str | None]:
    """The side of the matrices that a type's peak is measured with; infinite, and the reason, where it can't be."""

    def seconds(side: int) -> float:
        with product_of(dtype, side, device) as product:
            return min(time_steps(product, TRIES, device))

    try:
        first = SIDE_RANGE[0] if dtype == "float32" else MIN_SLOW_SIDE
        return choose_side(seconds, first, SIDE_RANGE[1], MAX_PRODUCT_S[device.split(":")[0]]), None
    except MemoryError:
        return math.inf, NO_MEMORY_FOR_PEAK
    except RuntimeError as problem:
        return math.inf, describe_exception(problem)


def choose_side(seconds: Callable[[int], float], first: int, last: int, max_s: float) -> int:
    """The side of the square matrices whose product shows the peak of a device (pure).

    Sides are doubled until a product takes long enough to be timed, and further as long as the rate grows and the
    time allows: a large GPU is not filled by what a small one is.

    Args:
        seconds: How long a product of matrices of a side takes; it raises ``MemoryError`` where they don't fit.
        first: The smallest side.
        last: The largest side.
        max_s: About how long a product may take, in seconds, once it is long enough to be timed.

    Raises:
        MemoryError: If no product fits.
    """
    side, taken_s = first, seconds(first)
    while side < last:
        if taken_s >= MIN_PRODUCT_S and 8 * taken_s > max_s:
            break
        try:
            doubled_s = seconds(2 * side)
        except MemoryError:
            break
        gain = 8 * taken_s / doubled_s - 1
        if taken_s >= MIN_PRODUCT_S and gain < MIN_GAIN:
            break
        side, taken_s = 2 * side, doubled_s
    return side


@contextmanager
def product_of(dtype: str, side: int, device: str) -> Iterator[Callable[[], Any]]:
    """A product of two random square matrices, into a third one.

    Args:
        dtype: A name of torch's, or ``tf32``, which is set inside the context.
        side: Rows and columns of each matrix, a multiple of 16.
        device: Where they are.

    Raises:
        MemoryError: If they don't fit.
    """
    import torch

    stored = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    generator = torch.Generator(device).manual_seed(side)
    try:
        left, right = (torch.randn(side, side, device=device, generator=generator).to(stored) for _ in range(2))
        output = torch.empty(side, side, device=device, dtype=torch.bfloat16 if stored.itemsize == 1 else stored)
    # On CUDA it is torch.OutOfMemoryError, which is one of these; on a CPU it is a plain one.
    except RuntimeError as problem:
        raise MemoryError(str(problem)) from problem
    if stored.itemsize > 1:
        with _tf32(device, dtype):
            yield lambda: torch.mm(left, right, out=output)
        return
    # The units take the second matrix by columns, and a factor for each.
    scale, by_columns = torch.ones((), device=device), right.t()
    yield lambda: torch._scaled_mm(left, by_columns, scale, scale, out_dtype=output.dtype, out=output)


@contextmanager
def _tf32(device: str, dtype: str) -> Iterator[None]:
    """Whether float32 is multiplied as TensorFloat-32, in a context; on a CPU it is not set."""
    import torch

    if device == "cpu" or dtype not in ("float32", "tf32"):
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _limits_under_load(product: Callable[[], Any], product_s: float, session: Session) -> GpuLimits:
    """A GPU's clock while all ranks multiply, and its power limit; a CPU's are sampled on the host."""
    if session.device == "cpu":
        return GpuLimits(None, None, "read for GPUs only")
    session.barrier()
    for _ in range(math.ceil(LOAD_S / product_s)):
        product()
    time.sleep(READ_AFTER_S)
    uuid = device_uuid(session.device)
    limits = read_gpu_limits(uuid) if uuid else GpuLimits(None, None, "the GPU has no UUID")
    synchronize(session.device)
    return limits
