"""Inside a node against across nodes: what is lost where, and the same ranks packed or spread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.placement_effects import NodeEfficiency, Packing, PlacementEffects
from reports.analysis.stats import Estimate
from reports.page.elements import Figure, Section, Series, Table
from reports.page.series import estimate_series

TITLE = "Inside a node and across nodes"
NOTE = (
    "Efficiency = inside × across. Inside: X(K on one node) ÷ (K·X(1)); across: X(n·K) ÷ (n·X(K on one node)); X is "
    "throughput, intervals are Welch's over trials. One rank is on one node, whatever others that node had room for."
)
EstimateOf = Callable[[NodeEfficiency], Estimate | None]


def sections(found: PlacementEffects, styles: Mapping[str, int]) -> Iterator[Section]:
    """One, where it was said how many ranks a node holds."""
    tables = tuple(table for table in (split_table(found.splits), packing_table(found.packings)) if table.rows)
    if tables:
        yield Section(TITLE, figures=tuple(_figures(found.splits, styles)), tables=tables)


def node_answers(found: PlacementEffects) -> list[str]:
    """One sentence a curve, at its most nodes: where more is lost."""
    most_nodes: dict[str, NodeEfficiency] = {}
    for one in found.splits:
        if one.nodes > 1:
            most_nodes[one.curve] = max(most_nodes.get(one.curve, one), one, key=lambda split: split.nodes)
    return [_split_answer(one) for one in most_nodes.values() if one.across is not None]


def _split_answer(found: NodeEfficiency) -> str:
    title = f"{found.labels.workload} · {found.labels.backend_at_ranks}"
    across = f"across nodes {formatting.percent(found.across)}"
    if found.inside is None:
        unknown = "" if found.ranks == found.nodes else f"; inside a node unknown: {found.inside_reason}"
        return f"{title}: {across}{unknown}."
    verdict = {
        "across": "the network between nodes costs more",
        "inside": "sharing a node costs more",
        "neither": "which costs more can't be told: their intervals touch",
        "unknown": "which costs more can't be told from one trial",
    }[found.larger_loss]
    return f"{title}: inside a node {formatting.percent(found.inside)}, {across}: {verdict}."


def split_table(found: Sequence[NodeEfficiency]) -> Table:
    rows = tuple(
        (
            one.labels.workload,
            one.labels.backend,
            one.labels.rank_count,
            one.case.scaling,
            _percent_or_reason(one.inside, one.inside_reason),
            _percent_or_reason(one.across, one.across_reason),
        )
        for one in found
    )
    header = ("workload", "backend", "ranks", "scaling", "inside a node (95 %)", "across nodes (95 %)")
    return Table(TITLE, header, rows, NOTE)


def _percent_or_reason(found: Estimate | None, reason: str | None) -> str:
    return formatting.percent(found) if found is not None else f"– ({reason})"


def packing_table(found: Sequence[Packing]) -> Table:
    rows = tuple(
        (
            one.labels.workload,
            one.labels.path,
            one.packed.scaling,
            str(one.ranks),
            formatting.nodes(one.packed_nodes),
            formatting.nodes(one.spread_nodes),
            formatting.estimate(one.ratio),
            _faster(one.ratio),
        )
        for one in found
    )
    header = ("workload", "backend", "scaling", "ranks", "packed on", "spread over", "packed ÷ spread (95 %)", "faster")
    note = "Throughput of the same ranks on fewer nodes ÷ on more."
    return Table("Packed or spread", header, rows, note)


def _faster(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return "unknown: one trial"
    return "packed" if found.low > 1 else "spread" if found.high < 1 else "can't be told"


def _figures(found: Sequence[NodeEfficiency], styles: Mapping[str, int]) -> Iterator[Figure]:
    """Two a workload: over the ranks on a node, and over nodes."""
    groups: dict[str, list[NodeEfficiency]] = {}
    for one in found:
        groups.setdefault(f"{one.labels.workload} · {one.case.scaling}", []).append(one)
    for number, (title, group) in enumerate(groups.items()):
        on_one_node = [one for one in group if one.nodes == 1]
        yield from _figure(
            f"inside-{number}",
            f"Inside a node: {title}",
            "ranks on the node",
            on_one_node,
            lambda one: one.inside,
            styles,
        )
        yield from _figure(f"across-{number}", f"Across nodes: {title}", "nodes", group, lambda one: one.across, styles)


def _figure(
    key: str, title: str, x_title: str, found: Sequence[NodeEfficiency], of: EstimateOf, styles: Mapping[str, int]
) -> Iterator[Figure]:
    """None without a point."""
    known = [(one, value) for one in found if (value := of(one)) is not None]
    if not known:
        return
    rows = tuple((one.labels.backend, one.labels.rank_count, formatting.percent(value)) for one, value in known)
    worst, lowest = min(known, key=lambda pair: pair[1].value)
    sentence = f"The least, {formatting.percent(lowest)}, has {worst.labels.backend_at_ranks}; 100 % is ideal."
    yield Figure(
        key,
        title,
        x_title,
        "efficiency",
        tuple(_series(known, styles, over_nodes=x_title == "nodes")),
        sentence,
        Table(title, ("backend", "ranks", "efficiency (95 %)"), rows),
        "one",
        percent=True,
    )


def _series(
    known: Sequence[tuple[NodeEfficiency, Estimate]], styles: Mapping[str, int], *, over_nodes: bool
) -> Iterator[Series]:
    """From one node, or one rank on it, where nothing is lost yet."""
    lines: dict[str, list[tuple[NodeEfficiency, Estimate]]] = {}
    for one, value in known:
        name = one.labels.backend if over_nodes else one.labels.backend_and_site
        lines.setdefault(name, []).append((one, value))
    start = Estimate(value=1.0, low=None, high=None, n=1, unit="1")
    for name, group in lines.items():
        x = (1.0, *(float(one.nodes if over_nodes else one.ranks) for one, _ in group))
        yield estimate_series(name, x, [start, *(value for _, value in group)], styles[group[0][0].labels.backend])
