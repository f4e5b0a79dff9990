"""Efficiency inside a node and across nodes, and the same ranks packed on few nodes or spread over many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.placement_effects import NodeEfficiency, Packing, PlacementEffects
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Section, Series, Table
from reports.page.palette import SeriesStyle
from reports.page.series import estimate_series

TITLE = "Inside a node and across nodes"
NOTE = (
    "Efficiency = inside × across. Inside: X(K on one node) ÷ (K·X(1)); across: X(n·K) ÷ (n·X(K on one node)); X is "
    "throughput, intervals are Welch's over trials. One rank is on one node, however many ranks that node has room for."
)
EstimateOf = Callable[[NodeEfficiency], Estimate | None]


def sections(effects: PlacementEffects, styles: Mapping[str, SeriesStyle]) -> Iterator[Section]:
    """One section, where the number of ranks per node was given."""
    tables = tuple(table for table in (split_table(effects.splits), packing_table(effects.packings)) if table.rows)
    if tables:
        yield Section(TITLE, figures=tuple(_figures(effects.splits, styles)), tables=tables)


def node_answers(effects: PlacementEffects) -> list[str]:
    """One sentence for each curve, at its most nodes: where more efficiency is lost."""
    most_nodes: dict[str, NodeEfficiency] = {}
    for split in effects.splits:
        if split.nodes > 1:
            most_nodes[split.curve] = max(most_nodes.get(split.curve, split), split, key=lambda split: split.nodes)
    return [_split_answer(split) for split in most_nodes.values() if split.across is not None]


def _split_answer(split: NodeEfficiency) -> str:
    title = f"{split.labels.workload} · {split.labels.backend_at_ranks}"
    across = f"across nodes {formatting.percent(split.across)}"
    if split.inside is None:
        unknown = "" if split.ranks == split.nodes else f"; inside a node unknown: {split.inside_reason}"
        return f"{title}: {across}{unknown}."
    verdict = {
        "across": "the network between nodes costs more",
        "inside": "sharing a node costs more",
        "neither": "statistically tied",
        "unknown": "one trial gives no interval to compare them by",
    }[split.larger_loss]
    return f"{title}: inside a node {formatting.percent(split.inside)}, {across}: {verdict}."


def split_table(splits: Sequence[NodeEfficiency]) -> Table:
    """One row for each placement: efficiency inside a node and across nodes."""
    rows = tuple(
        (
            split.labels.workload,
            split.labels.backend,
            split.labels.rank_count,
            split.case.scaling,
            _percent_or_reason(split.inside, split.inside_reason),
            _percent_or_reason(split.across, split.across_reason),
        )
        for split in splits
    )
    header = ("workload", "backend", "ranks", "scaling", "inside a node (95 %)", "across nodes (95 %)")
    return Table(TITLE, header, rows, NOTE)


def _percent_or_reason(value: Estimate | None, reason: str | None) -> str:
    return formatting.percent(value) if value is not None else f"– ({reason})"


def packing_table(packings: Sequence[Packing]) -> Table:
    """One row for each pair of placements of the same ranks."""
    rows = tuple(
        (
            packing.labels.workload,
            packing.labels.path,
            packing.packed.scaling,
            str(packing.ranks),
            formatting.nodes(packing.packed_nodes),
            formatting.nodes(packing.spread_nodes),
            formatting.estimate(packing.ratio),
            _faster(packing.ratio),
        )
        for packing in packings
    )
    header = ("workload", "backend", "scaling", "ranks", "packed on", "spread over", "packed ÷ spread (95 %)", "faster")
    note = "Throughput of the same ranks on fewer nodes ÷ on more nodes."
    return Table("Packed or spread", header, rows, note)


def _faster(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return "unknown: one trial"
    return "packed" if value.low > 1 else "spread" if value.high < 1 else "statistically tied"


def _figures(splits: Sequence[NodeEfficiency], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """Two figures for each workload: over the ranks on a node, and over nodes."""
    groups: dict[str, list[NodeEfficiency]] = {}
    for split in splits:
        groups.setdefault(f"{split.labels.workload} · {split.case.scaling}", []).append(split)
    for number, (title, group) in enumerate(groups.items()):
        on_one_node = [split for split in group if split.nodes == 1]
        yield from _figure(
            f"inside-{number}",
            f"Inside a node: {title}",
            "ranks on the node",
            on_one_node,
            lambda split: split.inside,
            styles,
        )
        yield from _figure(
            f"across-{number}", f"Across nodes: {title}", "nodes", group, lambda split: split.across, styles
        )


def _figure(
    key: str,
    title: str,
    x_title: str,
    splits: Sequence[NodeEfficiency],
    of: EstimateOf,
    styles: Mapping[str, SeriesStyle],
) -> Iterator[Figure]:
    """One figure, or none without a point."""
    known = [(split, value) for split in splits if (value := of(split)) is not None]
    if not known:
        return
    rows = tuple((split.labels.backend, split.labels.rank_count, formatting.percent(value)) for split, value in known)
    worst, lowest = min(known, key=lambda pair: pair[1].value)
    caption = f"The lowest: {formatting.percent(lowest)}, {worst.labels.backend_at_ranks}; 100 % is ideal."
    yield Figure(
        key,
        title,
        x_title,
        "efficiency",
        tuple(_series(known, styles, over_nodes=x_title == "nodes")),
        caption,
        Table(title, ("backend", "ranks", "efficiency (95 %)"), rows),
        "one",
        percent=True,
    )


def _series(
    known: Sequence[tuple[NodeEfficiency, Estimate]], styles: Mapping[str, SeriesStyle], *, over_nodes: bool
) -> Iterator[Series]:
    """The lines start at 100 % on one node, or with one rank on it."""
    lines: dict[str, list[tuple[NodeEfficiency, Estimate]]] = {}
    for split, value in known:
        name = split.labels.backend if over_nodes else split.labels.backend_and_site
        lines.setdefault(name, []).append((split, value))
    start = Estimate(value=1.0, low=None, high=None, n=1, unit="1")
    for name, group in lines.items():
        x = (1.0, *(float(split.nodes if over_nodes else split.ranks) for split, _ in group))
        yield estimate_series(name, x, [start, *(value for _, value in group)], styles[group[0][0].labels.backend])
