"""The time of a training step from its parts: what a rank does by itself, and messages that travel beside it.

The gradients are ready one after another while the backward pass goes on, in proportion to their bytes. The backend
groups them into messages (:class:`bench.core.gradients.GradientBuckets`), which travel one at a time. The step ends
after the last message has arrived and the optimizer has run:

    T = data + forward + max(backward, end of the last message) + optimizer + handling

A message that travels beside the backward pass is not free where the exchange uses the rank's own core. If the exchange
alone keeps a share u of the core busy, compute and exchange share it as 1 : u, and T grows by u ÷ (1 + u) of the hidden
time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from bench.core.frozen_model import FrozenModel
from bench.core.gradients import Gradients

STEP_PARTS = ("data", "forward", "backward", "optimizer")


class OwnTimes(FrozenModel):
    """The own work of a rank in a step, in seconds."""

    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    waiting_s: float = 0.0
    """For the slowest rank."""
    handling_s: float = 0.0
    """What the backend does with gradients even on a single rank, such as copies into buckets and back."""

    @property
    def total_s(self) -> float:
        """The sum of all parts, waiting and handling included."""
        return self.data_s + self.forward_s + self.backward_s + self.optimizer_s + self.waiting_s + self.handling_s


def predict_step(
    own: OwnTimes, gradients: Gradients, exchange_s: Callable[[float], float], core_share: float = 0.0
) -> float:
    """The time of a step in seconds.

    Args:
        own: the own work of the slowest rank.
        gradients: what a rank exchanges, and how it is grouped into messages.
        exchange_s: the time of one message in seconds, by its bytes.
        core_share: u, the share of a rank's core that the exchange alone keeps busy.
    """
    before_s = own.data_s + own.waiting_s + own.forward_s
    schedule = _exchange_buckets if gradients.grouping.laid_out else _exchange_when_ready
    ready = _ready_times(own.backward_s, gradients)
    communication_s = 0.0

    def timed_exchange_s(size: float) -> float:
        nonlocal communication_s
        seconds = exchange_s(size)
        communication_s += seconds
        return seconds

    last_s = schedule(ready, gradients, timed_exchange_s)
    hidden_s = communication_s - max(0.0, last_s - own.backward_s)
    slowed_s = core_share / (1 + core_share) * hidden_s
    return before_s + max(own.backward_s, last_s) + slowed_s + own.optimizer_s + own.handling_s


def _ready_times(backward_s: float, gradients: Gradients) -> list[tuple[float, float]]:
    """When in the backward pass each gradient is ready, and its bytes on the wire; the earliest first."""
    sizes = list(reversed(gradients.tensor_bytes))
    total_bytes = sum(sizes) or 1
    share = gradients.grouping.share
    if not gradients.grouping.overlaps:
        return [(backward_s, size * share) for size in sizes]
    return [
        (backward_s * done / total_bytes, size * share) for size, done in zip(sizes, accumulate(sizes), strict=True)
    ]


def _exchange_buckets(
    ready: Sequence[tuple[float, float]], gradients: Gradients, exchange_s: Callable[[float], float]
) -> float:
    link_free_s = bucket_bytes = 0.0
    limit = gradients.grouping.first_bytes
    for number, (at_s, size) in enumerate(ready):
        bucket_bytes += size
        if bucket_bytes >= limit * gradients.grouping.share or number == len(ready) - 1:
            link_free_s = max(link_free_s, at_s) + exchange_s(bucket_bytes)
            bucket_bytes, limit = 0.0, gradients.grouping.most_bytes
    return link_free_s


def _exchange_when_ready(
    ready: Sequence[tuple[float, float]], gradients: Gradients, exchange_s: Callable[[float], float]
) -> float:
    link_free_s = 0.0
    waiting = list(ready)
    while waiting:
        begins_s = max(link_free_s, waiting[0][0])
        bucket_bytes = 0.0
        while (
            waiting
            and waiting[0][0] <= begins_s
            and (bucket_bytes == 0 or bucket_bytes + waiting[0][1] <= gradients.grouping.most_bytes)
        ):
            bucket_bytes += waiting.pop(0)[1]
        link_free_s = begins_s + exchange_s(bucket_bytes)
    return link_free_s


class OwnTimeModel(FrozenModel):
    """Each part of a step as ``fixed_s`` + ``share_s`` × the share of the batch that a rank has."""

    fixed_s: Mapping[str, float]
    share_s: Mapping[str, float]
    waiting_s: float
    """For the slowest rank, wherever there are several; independent of the batch."""
    handling_s: float = 0.0

    def at(self, share: float, *, alone: bool) -> OwnTimes:
        """The own work of a rank with this share of the batch; ``alone``: it waits for no other rank."""
        own = {f"{part}_s": self.fixed_s[part] + self.share_s[part] * share for part in STEP_PARTS}
        return OwnTimes(**own, waiting_s=0.0 if alone else self.waiting_s, handling_s=self.handling_s)


def fit_own_times(
    parts_s: Mapping[float, Mapping[str, float]], waiting_s: float, handling_s: float = 0.0
) -> OwnTimeModel:
    """Fit each part of a step as a fixed time plus a time in proportion to a rank's share of the batch.

    Neither term is negative. Where only one share was measured, the whole time is assumed to be in proportion to it.

    Args:
        parts_s: seconds by part, by the share of the batch that a rank had: 1/N under strong scaling, 1 under weak.
        waiting_s: for the slowest rank, where there are several.
        handling_s: of gradients by the backend.

    Raises:
        ValueError: there are no parts.
    """
    if not parts_s:
        raise ValueError("no parts to fit")
    lines = {part: _fit_line({share: parts[part] for share, parts in parts_s.items()}) for part in STEP_PARTS}
    return OwnTimeModel(
        fixed_s={part: fixed for part, (fixed, _) in lines.items()},
        share_s={part: growing for part, (_, growing) in lines.items()},
        waiting_s=waiting_s,
        handling_s=handling_s,
    )


def _fit_line(times_by_share: Mapping[float, float]) -> tuple[float, float]:
    import numpy as np
    from scipy.optimize import nnls

    if len(times_by_share) == 1:
        ((share, value),) = times_by_share.items()
        return 0.0, max(0.0, value) / share
    values = np.maximum(np.array(list(times_by_share.values())), 1e-12)
    columns = np.stack([np.ones(len(times_by_share)), np.array(list(times_by_share))], axis=1)
    # Relative errors: the small parts of many ranks count as much as the large parts of few.
    solved, _ = nnls(columns / values[:, None], np.ones(len(times_by_share)))
    return float(solved[0]), float(solved[1])
