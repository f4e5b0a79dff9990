"""An allreduce among ranks of several nodes, from what one costs inside a node and what one costs between nodes.

N ranks on n nodes, K = N ÷ n on each; S bytes; αᵢ, βᵢ inside a node and αₓ, βₓ of the link between nodes:

    flat ring      2(N−1) · max(αᵢ + S/N·βᵢ, αₓ + S/N·βₓ)
    hierarchical   T_inside(K, S) + T_across(n, S)

*Flat*: one ring through all ranks, node after node. All its messages of a round travel at once, and the round lasts as
long as the slowest; one of them leaves each node and one enters it, so none shares a link. Patarasuk and Yuan 2009,
doi:10.1016/j.jpdc.2008.09.002, show that such a ring is bandwidth-optimal on clusters of multi-core nodes.

*Hierarchical*: reduce-scatter inside, allreduce of S/K among the nodes by each of the K ranks, allgather inside; as in
Horovod's hierarchical allreduce, and in BlueConnect (Cho et al., SysML 2019). The first and the last are the halves of
an allreduce inside (Thakur, Rabenseifner and Gropp 2005). The K exchanges of S/K in the middle are made at once and
share the node's link: together they take as long as a single one of S. Nodes with a link for each rank do better.
With one rank a node, either is the exchange across nodes, and on one node the one inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from bench.core.frozen_model import FrozenModel
from reports.analysis.communication import AllreduceModel, AllreduceTiming, cost_coefficients, fit_latency_and_bandwidth

LayeredAlgorithm = Literal["flat ring", "hierarchical"]
AlgorithmSource = Literal["assumed", "tested", "fitted"]
"""``assumed``: no measurement to judge it by; ``tested``: predicted from its parts and compared with measurements;
``fitted``: α and β between nodes are fitted to the same allreduces that it is judged by."""


class Misfit(FrozenModel):
    """The deviation of modelled from measured times."""

    typical: float
    """Root mean square of ln(modelled ÷ measured)."""
    largest: float
    """Modelled ÷ measured − 1 where it is furthest from 0: at :attr:`ranks` and :attr:`message_bytes`."""
    ranks: int
    message_bytes: float


class LayeredAllreduce(FrozenModel):
    """The model for allreduces among several ranks on each of several nodes."""

    algorithm: LayeredAlgorithm
    source: AlgorithmSource
    inside: AllreduceModel
    across: AllreduceModel
    misfits: dict[LayeredAlgorithm, Misfit] = Field(default={})
    """Of each algorithm, where measurements allow it."""

    def by_algorithm(self) -> dict[LayeredAlgorithm, Callable[[int, int, float], float]]:
        """The time by each algorithm; of the selected one alone where α and β were fitted for it."""
        algorithms = (self.algorithm,) if self.source == "fitted" else get_args(LayeredAlgorithm)
        return {algorithm: layered_time(algorithm, self.inside, self.across) for algorithm in algorithms}

    def time_s(self, ranks: int, nodes: int, message_bytes: float) -> float:
        """The modelled time of one allreduce."""
        return layered_time(self.algorithm, self.inside, self.across)(ranks, nodes, message_bytes)


class LinkModel(NamedTuple):
    """α and β of one kind of link, and the time of an allreduce that uses no other."""

    latency_s: float
    byte_s: float
    allreduce_s: Callable[[int, float], float]


def link_model(model: AllreduceModel) -> LinkModel:
    """The link that a fitted allreduce used."""
    return LinkModel(model.latency_s.value, model.byte_s.value, model.time_s)


def layered_time(
    algorithm: LayeredAlgorithm, inside: AllreduceModel, across: AllreduceModel
) -> Callable[[int, int, float], float]:
    """The time by ranks, nodes and bytes of a message, with equally many ranks on each node."""
    return layered_time_over_links(algorithm, link_model(inside), link_model(across))


def layered_time_over_links(
    algorithm: LayeredAlgorithm, inside: LinkModel, across: LinkModel
) -> Callable[[int, int, float], float]:
    """:func:`layered_time` from α and β alone, and the time of an allreduce over one kind of link."""

    def flat(ranks: int, nodes: int, message_bytes: float) -> float:
        if nodes in (1, ranks):
            return (inside if nodes == 1 else across).allreduce_s(ranks, message_bytes)
        piece = message_bytes / ranks
        return 2 * (ranks - 1) * max(inside.latency_s + piece * inside.byte_s, across.latency_s + piece * across.byte_s)

    def hierarchical(ranks: int, nodes: int, message_bytes: float) -> float:
        within = inside.allreduce_s(ranks // nodes, message_bytes) if ranks > nodes else 0.0
        return within + (across.allreduce_s(nodes, message_bytes) if nodes > 1 else 0.0)

    return flat if algorithm == "flat ring" else hierarchical


def select_layered_allreduce(
    inside: AllreduceModel, across: AllreduceModel | None, timings: Sequence[AllreduceTiming]
) -> LayeredAllreduce | None:
    """The algorithm that is closer to measured allreduces; a flat ring, as gloo and NCCL run it, where there are none.

    Args:
        inside: the fitted allreduce inside a node.
        across: the fitted allreduce across nodes; without it α and β between nodes are fitted to ``timings``.
        timings: allreduces of several ranks on each of several nodes.

    Returns:
        The model, or ``None`` where α and β between nodes can't be fitted.
    """
    candidates = list(_candidates(inside, across, timings))
    if not candidates or not timings:
        return candidates[0] if candidates else None
    misfits: dict[LayeredAlgorithm, Misfit] = {}
    for candidate in candidates:
        own_misfit = misfit(candidate, timings)
        if candidate.algorithm not in misfits or own_misfit.typical < misfits[candidate.algorithm].typical:
            misfits[candidate.algorithm] = own_misfit
    best = min(candidates, key=lambda candidate: misfit(candidate, timings).typical)
    return best.model_copy(update={"misfits": misfits})


def _candidates(
    inside: AllreduceModel, across: AllreduceModel | None, timings: Sequence[AllreduceTiming]
) -> Iterator[LayeredAllreduce]:
    if across is not None:
        source: AlgorithmSource = "tested" if timings else "assumed"
        yield LayeredAllreduce(algorithm="flat ring", source=source, inside=inside, across=across)
        yield LayeredAllreduce(algorithm="hierarchical", source=source, inside=inside, across=across)
    elif len({timing.message_bytes for timing in timings}) > 2:
        flat = fit_latency_and_bandwidth(
            timings, "ring", [cost_coefficients("ring", timing.ranks, timing.message_bytes) for timing in timings]
        )
        yield LayeredAllreduce(algorithm="flat ring", source="fitted", inside=inside, across=flat)
        between = [cost_coefficients("ring", timing.nodes, timing.message_bytes) for timing in timings]
        within = [inside.time_s(timing.ranks // timing.nodes, timing.message_bytes) for timing in timings]
        layered = fit_latency_and_bandwidth(timings, "ring", between, within)
        yield LayeredAllreduce(algorithm="hierarchical", source="fitted", inside=inside, across=layered)


def misfit(model: LayeredAllreduce, timings: Sequence[AllreduceTiming]) -> Misfit:
    """The deviation of a model from measured allreduces. Raises ``ValueError`` for no timings."""
    return misfit_of(lambda timing: model.time_s(timing.ranks, timing.nodes, timing.message_bytes), timings)


def misfit_of(modelled_s: Callable[[AllreduceTiming], float], timings: Sequence[AllreduceTiming]) -> Misfit:
    """The deviation of modelled times from measured ones. Raises ``ValueError`` for no timings."""
    log_ratios = [math.log(modelled_s(timing) / timing.time_s) for timing in timings]
    worst = max(range(len(log_ratios)), key=lambda number: abs(log_ratios[number]))
    return Misfit(
        typical=math.sqrt(math.fsum(log_ratio**2 for log_ratio in log_ratios) / len(log_ratios)),
        largest=math.exp(log_ratios[worst]) - 1,
        ranks=timings[worst].ranks,
        message_bytes=timings[worst].message_bytes,
    )
