"""Inside a node against across nodes: what is lost where, and the same ranks packed or spread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.analysis.stats import Estimate
from reports.page import words
from reports.page.over_ranks import series_of
from reports.page.values import Figure, Section, Series, Table
from reports.placements import Packing, Placements, Split

TITLE = "Inside a node and across nodes"
NOTE = (
    "Efficiency = inside × across. Inside: X(K on one node) ÷ (K·X(1)); across: X(n·K) ÷ (n·X(K on one node)); X is "
    "throughput, intervals are Welch's over trials. One rank is on one node, whatever others that node had room for."
)
Of = Callable[[Split], Estimate | None]


def sections(found: Placements, styles: Mapping[str, int]) -> Iterator[Section]:
    """One, where it was said how many ranks a node holds."""
    tables = tuple(table for table in (splits(found.splits), packings(found.packings)) if table.rows)
    if tables:
        yield Section(TITLE, figures=tuple(_figures(found.splits, styles)), tables=tables)


def answers(found: Placements) -> list[str]:
    """One sentence a curve, at its most nodes: where more is lost."""
    most: dict[str, Split] = {}
    for one in found.splits:
        if one.nodes > 1:
            most[one.curve] = max(most.get(one.curve, one), one, key=lambda split: split.nodes)
    return [_answer(one) for one in most.values() if one.across is not None]


def _answer(found: Split) -> str:
    title = f"{words.workload_title(found.case)} · {words.located(found.case)}"
    across = f"across nodes {words.percent(found.across)}"
    if found.inside is None:
        unknown = "" if found.ranks == found.nodes else f"; inside a node unknown: {found.inside_reason}"
        return f"{title}: {across}{unknown}."
    verdict = {
        "across": "the network between nodes costs more",
        "inside": "sharing a node costs more",
        "neither": "which costs more can't be told: their intervals touch",
        "unknown": "which costs more can't be told from one trial",
    }[found.dearer]
    return f"{title}: inside a node {words.percent(found.inside)}, {across}: {verdict}."


def splits(found: Sequence[Split]) -> Table:
    rows = tuple(
        (words.workload_title(one.case), words.backend_title(one.case), words.count(one.case), one.case.scaling,
         _known(one.inside, one.inside_reason), _known(one.across, one.across_reason))
        for one in found
    )  # fmt: skip
    header = ("workload", "backend", "ranks", "scaling", "inside a node (95 %)", "across nodes (95 %)")
    return Table(TITLE, header, rows, NOTE)


def _known(found: Estimate | None, reason: str | None) -> str:
    return words.percent(found) if found is not None else f"– ({reason})"


def packings(found: Sequence[Packing]) -> Table:
    rows = tuple(
        (words.workload_title(one.packed), words.way_title(one.packed), one.packed.scaling, str(one.ranks),
         words.nodes(one.packed_nodes), words.nodes(one.spread_nodes), words.measured(one.ratio), _verdict(one.ratio))
        for one in found
    )  # fmt: skip
    header = ("workload", "backend", "scaling", "ranks", "packed on", "spread over", "packed ÷ spread (95 %)", "faster")
    note = "Throughput of the same ranks on fewer nodes ÷ on more."
    return Table("Packed or spread", header, rows, note)


def _verdict(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return "unknown: one trial"
    return "packed" if found.low > 1 else "spread" if found.high < 1 else "can't be told"


def _figures(found: Sequence[Split], styles: Mapping[str, int]) -> Iterator[Figure]:
    """Two a workload: over the ranks on a node, and over nodes."""
    groups: dict[str, list[Split]] = {}
    for one in found:
        groups.setdefault(f"{words.workload_title(one.case)} · {one.case.scaling}", []).append(one)
    for number, (title, own) in enumerate(groups.items()):
        within = [one for one in own if one.nodes == 1]
        yield from _figure(f"inside-{number}", f"Inside a node: {title}", "ranks on the node", within,
                           lambda one: one.inside, styles)  # fmt: skip
        yield from _figure(f"across-{number}", f"Across nodes: {title}", "nodes", own, lambda one: one.across, styles)


def _figure(
    key: str, title: str, x_title: str, found: Sequence[Split], of: Of, styles: Mapping[str, int]
) -> Iterator[Figure]:
    """None without a point."""
    known = [(one, value) for one in found if (value := of(one)) is not None]
    if not known:
        return
    rows = tuple((words.backend_title(one.case), words.count(one.case), words.percent(value)) for one, value in known)
    worst, least = min(known, key=lambda pair: pair[1].value)
    sentence = f"The least, {words.percent(least)}, has {words.located(worst.case)}; 100 % is ideal."
    yield Figure(key, title, x_title, "efficiency", tuple(_series(known, styles, over_nodes=x_title == "nodes")),
                 sentence, Table(title, ("backend", "ranks", "efficiency (95 %)"), rows), "one",
                 percent=True)  # fmt: skip


def _series(
    known: Sequence[tuple[Split, Estimate]], styles: Mapping[str, int], *, over_nodes: bool
) -> Iterator[Series]:
    """From one node, or one rank on it, where nothing is lost yet."""
    lines: dict[str, list[tuple[Split, Estimate]]] = {}
    for one, value in known:
        name = words.backend_title(one.case) if over_nodes else words.family_title(one.case)
        lines.setdefault(name, []).append((one, value))
    start = Estimate(value=1.0, low=None, high=None, n=1, unit="1")
    for name, own in lines.items():
        x = (1.0, *(float(one.nodes if over_nodes else one.ranks) for one, _ in own))
        yield series_of(name, x, [start, *(value for _, value in own)], styles[words.backend_title(own[0][0].case)])
